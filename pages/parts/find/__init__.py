"""The search of everything that is said of a model's latents.

- `box`: what is searched for, and how; what was found
- `jobs`: collecting, comparing and making descriptions in the background
- `session`: the search in this session and its link
"""
