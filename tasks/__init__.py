"""The rooms of the platform, one per step; `docs/decisions/0001-rooms.md` has the floor plan."""
