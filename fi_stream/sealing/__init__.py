"""Keys and seals: who a member is, its epochs, how an event is closed, checked and opened."""
