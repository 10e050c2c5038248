"""Small helpers that every part of the package may use: seeding, progress, atomic files, quiet libraries."""
