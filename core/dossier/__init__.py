"""The dossier of one latent: every line of evidence side by side, and one conclusion.

    found = run_dossier(lease_of, store, request)
    weigh(found).sentence

- `request`: what is looked at, on which text, with whose help
- `reads`, `writes`, `says`, `belongs`, `hides`, `works`: one section each, from the analyses of the
  other packages
- `controls`, `shared`: random latents and random directions through the same sections; what all
  latents of an SAE have in common is computed once
- `verdict`, `conclude`: stated rules from sections to one conclusion, without a model
- `run`, `stored`: parts in order, each kept on its own
- `beside`, `beside_runs`: what longer runs about the whole SAE say of it: map, meta-latents,
  absorption
- `hypothesis`, `trial`, `trial_chat`, `trials`: a reader's hypothesis tried on held-out text
- `compare`, `compare_shown`: two latents of any SAEs and models on the same texts
- `prose`: the evidence told by a chat model, only where a reader asks
- `notes`: the reader's own hypothesis
- `export_html`, `export_text`, `notebook`: to be taken away
"""
