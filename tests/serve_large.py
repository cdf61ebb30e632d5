"""As `tests.serve_demo`, with every map drawn as those of very many latents are."""

from pages.parts.splitting import chart
from tests.serve_demo import main

if __name__ == "__main__":
    chart.MOST_PLOTTED = 100
    main()
