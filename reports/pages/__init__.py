"""Self-contained HTML pages, their pictures, and tables for the terminal."""
