"""The federation as its members agreed it: task, roster and policy, and each member's own file."""
