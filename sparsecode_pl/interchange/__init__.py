"""Other formats: autoencoders of SAELens and sparsify, and the JSON of Neuronpedia."""
