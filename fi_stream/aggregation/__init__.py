"""How answers become one result: the join, the rules, their ties; no clock and no broker."""
