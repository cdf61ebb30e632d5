"""Which latents of a model, in whichever of its SAEs, are said to be about this?

- `gather`: everything that was said of the latents of a model's SAEs, found in the store
- `find`: what of it holds some words, a pattern, or means the same
- `meaning`: how alike in meaning two texts are, told by the model's own embeddings of tokens
- `describe`: describes the latents of SAEs of which nothing is said yet
- `view`: what of it a link carries

Nothing is loaded to search by words: what was said of an SAE is found by its name.
"""
