"""Small helpers that every part of the package may use: seeding, progress, memory, atomic files, quiet libraries."""
