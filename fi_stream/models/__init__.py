"""A participant's own model behind one small port, whatever it was made with."""
