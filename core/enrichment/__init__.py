"""Which kinds of tokens does each latent push up or down? Enrichment of token sets in its logits.

    found = stored_enrichment(PlainLease(model, [sae]), store)

As gene set enrichment analysis (Subramanian et al., 2005) with tokens for genes: tokens are sorted
by a latent's logit, and a running sum goes up at the tokens of a set and down at the others.

- `builtin`, `user_sets`, `token_sets`: sets that any vocabulary has, the user's, and what they are
- `score`, `null`: the running sum, and how far it gets by chance
- `run`: all latents of an SAE against all sets
- `figures`: tables and charts
"""
