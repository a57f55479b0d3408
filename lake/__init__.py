"""The floor everyone stands on: bars and every other table on disk. Imports nothing of ours but `tasks.errors`."""
