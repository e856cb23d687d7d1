"""Train the digits network and write the file that the workload ships.

Run from the root of the repository, with `pip install .[train]`:

    python -m bench.workloads.digits.train

Seeded and single-threaded, so that the same versions of torch and scikit-learn give the same weights.
The images are split first: the shipped test images are never seen by the training, and the calibration
images are taken from the training part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

TEST_IMAGES = 256
CALIBRATION_IMAGES = 64
DESTINATION = Path(__file__).with_name("digits.npz")


class Digits(nn.Module):
    """The float network; `bench.workloads.digits.network` builds the same one in Relax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 40, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(40, 40, 3, padding=1)
        self.conv4 = nn.Conv2d(40, 64, 1)
        self.dense = nn.Linear(64, 10)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        """Logits (N, 10) of images (N, 1, 8, 8) in 0..1."""
        relu1 = functional.relu(self.conv1(data))
        relu2 = functional.relu(self.conv2(relu1))
        relu3 = functional.relu(self.conv3(relu2) + relu2)
        relu4 = functional.relu(self.conv4(relu3))
        return self.dense(relu4.mean(dim=(2, 3)))


def split(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shuffle the 1797 scans: (training images, training labels, test images, test labels); pixels 0..16."""
    scans = load_digits()
    order = np.random.default_rng(seed).permutation(len(scans.images))
    images = scans.images[order].astype(np.uint8)[:, np.newaxis]
    labels = scans.target[order].astype(np.uint8)
    return images[TEST_IMAGES:], labels[TEST_IMAGES:], images[:TEST_IMAGES], labels[:TEST_IMAGES]


def shift_images(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move half of the images by up to one pixel each way: the only augmentation."""
    padded = functional.pad(images, (1, 1, 1, 1))
    offsets = torch.randint(0, 3, (len(images), 2), generator=generator).tolist()
    moved = torch.stack(
        [image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, offsets, strict=True)]
    )
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], moved, images)


def train(images: np.ndarray, labels: np.ndarray, *, epochs: int, seed: int) -> Digits:
    """Train with Adam, a one-cycle learning rate and weight decay (small weights quantise well)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Digits()
    data = torch.from_numpy(images).float() / 16
    target = torch.from_numpy(labels).long()
    batch = 64
    steps = epochs * (len(data) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=generator)
        for chosen in order[: len(data) // batch * batch].split(batch):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(shift_images(data[chosen], generator)), target[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
    return network


def main() -> None:
    """Train, print the accuracy on the held-out images and write the npz."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=DESTINATION)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    images, labels, test_images, test_labels = split(options.seed)
    network = train(images, labels, epochs=options.epochs, seed=options.seed).eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(test_images).float() / 16)
    accuracy = (logits.argmax(1).numpy() == test_labels).mean()
    print(f"accuracy on {len(test_labels)} held-out images: {accuracy:.2%}")
    np.savez_compressed(
        options.output,
        images=test_images,
        labels=test_labels,
        calibration=images[:CALIBRATION_IMAGES],
        **{name.replace(".", "_"): value.numpy() for name, value in network.state_dict().items()},
    )


if __name__ == "__main__":
    main()
