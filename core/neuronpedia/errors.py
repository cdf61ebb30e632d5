"""What went wrong with Neuronpedia, in one sentence that a page can show."""


class NeuronpediaError(ValueError):
    """Neuronpedia's data cannot be had now; the message says why and what to do."""


class NoExplanations(NeuronpediaError):
    """Neuronpedia answers, and has no explanations for this SAE."""
