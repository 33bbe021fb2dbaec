"""`heliograph demo`: the main job in five acts, against a real server process. One file an act."""
