"""The networks that can be backbones: their names, and how one is built, without its weights."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """How a network is built and what its images go through.

    Attributes
    ----------
    name : the name it was asked for by
    library : "timm" or "torchvision"
    architecture : the name there, for timm with the tag of its weights
    options : further arguments of the constructor
    checkpoint : URL of the official file where no hub has the weights, else empty
    pos_embed : "dino" or "timm", the default way to interpolate an absolute position embedding
    centre_offsets : stride → pixels
        For a network without padding, how far the first cell's centre lies before the centre of the first
        receptive field; the image is reflected by that much so that the grid is aligned.
    """

    name: str
    library: str
    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str = ""
    pos_embed: str = "timm"
    centre_offsets: Mapping[int, int] = field(default_factory=dict)

    def build(self, **options: Any) -> torch.nn.Module:
        """The network in evaluation mode, without a classifier where the library can leave it out."""
        if self.library == "torchvision":
            network: torch.nn.Module = torchvision().models.get_model(self.architecture, weights=None)
            return network.eval()
        build: Callable[..., torch.nn.Module] = timm().create_model
        arguments = {"num_classes": 0, **self.options, **options}
        try:
            return build(self.architecture, dynamic_img_size=True, **arguments).eval()
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
        return build(self.architecture, **arguments).eval()

    def outline(self) -> torch.nn.Module:
        """The network on the "meta" device: shapes without numbers."""
        # Some constructors of torchvision compute with tensors.
        with torch_module().device("cpu" if self.library == "torchvision" else "meta"):
            return self.build().to("meta")

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the network's images, RGB in [0, 1]."""
        if self.checkpoint:
            return IMAGENET_MEAN, IMAGENET_STD
        if self.library == "torchvision":
            transform = torchvision().models.get_model_weights(self.architecture).DEFAULT.transforms()
            return tuple(transform.mean), tuple(transform.std)
        config = timm().models.get_pretrained_cfg(self.architecture)
        return tuple(config.mean), tuple(config.std)


def names() -> tuple[str, ...]:
    """The short names of self-supervised networks; timm's and torchvision's own names work as well."""
    return tuple(_short_names())


def recipe(name: str) -> Recipe:
    """How the network of a name is built: a short name, else one of timm's, else one of torchvision's.

    Raises
    ------
    ImportError
        torch, torchvision or timm is missing, or they do not fit one another.
    ValueError
        The name is unknown; the message has the nearest ones.
    """
    if name in _short_names():
        return _short_names()[name]
    architectures = timm().list_models()
    if name in architectures or name in timm().list_pretrained():
        return Recipe(name, "timm", name)
    models = torchvision().models
    others = models.list_models(module=models)
    if name in others:
        return Recipe(name, "torchvision", name, centre_offsets=_CENTRE_OFFSETS.get(name, {}))
    known = [*names(), *architectures, *timm().list_pretrained(), *others]
    near = difflib.get_close_matches(str(name), dict.fromkeys(known), n=4, cutoff=0.5)
    hint = f"the nearest are {', '.join(near)}" if near else f"for instance {', '.join(names()[:4])}"
    raise ValueError(f"no backbone is called {name!r}; {hint}")


def torch_module() -> ModuleType:
    """`torch`, or an ImportError that says how to install it."""
    return _import("torch")


def timm() -> ModuleType:
    """`timm`, likewise."""
    return _import("timm")


def torchvision() -> ModuleType:
    """`torchvision`, likewise."""
    return _import("torchvision")


def has_absolute_positions(network: torch.nn.Module) -> bool:
    """Whether a learned or fixed vector is added to each patch by its place."""
    return isinstance(getattr(network, "pos_embed", None), torch_module().nn.Parameter)


def use_dino_positions(network: Any, name: str) -> None:
    """Make a vision transformer interpolate its position embedding as DINO's code does.

    The embedding is resized bicubically, not antialiased, by the scale factors (h + 0.1) / h₀ and
    (w + 0.1) / w₀; where the grid is the (square) trained one it is taken as it is. Call it when the weights are
    in: what the network has for patches is set to zero, which stays zero in any size, and a hook adds it instead.

    Raises
    ------
    ValueError
        The network has no such embedding.
    """
    grid: Any = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if not (has_absolute_positions(network) and grid and getattr(network, "dynamic_img_size", False)):
        raise ValueError(f"pos_embed='dino' needs a position embedding of patches, which {name} has not")
    functional = torch_module().nn.functional
    # [CLS] and registers, where they have positions, come first.
    of_patches = network.pos_embed.data[:, -grid[0] * grid[1] :]
    trained = of_patches.float().reshape(1, *grid, -1).movedim(3, 1).clone()
    of_patches.zero_()

    def add_positions(_: Any, __: Any, patches: torch.Tensor) -> torch.Tensor:
        positions = trained.to(patches.device)
        height, width = patches.shape[1:3]
        if (height, width) != grid or height != width:
            # The factor itself sets the sampling, not the ratio of the sizes: hence no `size=` here.
            factors = ((height + 0.1) / grid[0], (width + 0.1) / grid[1])
            positions = functional.interpolate(
                positions, scale_factor=factors, mode="bicubic", align_corners=False, antialias=False
            )
        return patches + positions.movedim(1, 3).to(patches.dtype)

    network.patch_embed.register_forward_hook(add_positions)


_FILES = "https://dl.fbaipublicfiles.com"
# Pixels from the image's border to the centre of the first receptive field, less half a stride.
_CENTRE_OFFSETS = {"squeezenet1_0": {2: 2, 4: 3, 8: 5, 16: 9}}


@lru_cache(maxsize=1)
def _short_names() -> dict[str, Recipe]:
    recipes: list[Recipe] = []

    def add(name: str, architecture: str, **fields: Any) -> None:
        recipes.append(Recipe(name, "timm", architecture, **fields))

    sizes = {"s": "small", "b": "base", "l": "large", "g": "giant"}
    for size in "sb":
        for patch in (16, 8):
            add(f"dino_vit{size}{patch}", f"vit_{sizes[size]}_patch{patch}_224.dino", pos_embed="dino")
    for depth in ("small_12", "medium_24"):
        for patch in (16, 8):
            name = f"dino_xcit_{depth}_p{patch}"
            file = f"{_FILES}/dino/{name}_pretrain/{name}_pretrain.pth"
            add(name, f"xcit_{depth}_p{patch}_224", checkpoint=file)
    add(
        "dino_resnet50",
        "resnet50",
        checkpoint=f"{_FILES}/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
    )
    for size in "sblg":
        add(f"dinov2_vit{size}14", f"vit_{sizes[size]}_patch14_dinov2.lvd142m", pos_embed="dino")
        # Trained with registers, DINOv2 interpolates as timm does: antialiased, without an offset.
        add(f"dinov2_vit{size}14_reg", f"vit_{sizes[size]}_patch14_reg4_dinov2.lvd142m")
    dinov3 = {"vits16": "small", "vits16plus": "small_plus", "vitb16": "base", "vitl16": "large"}
    for short, size in {**dinov3, "vith16plus": "huge_plus", "vit7b16": "7b"}.items():
        add(f"dinov3_{short}", f"vit_{size}_patch16_dinov3.lvd1689m")
    for size in ("tiny", "small", "base", "large"):
        add(f"dinov3_convnext_{size}", f"convnext_{size}.dinov3_lvd1689m")
    for size in "sb":
        add(
            f"mocov3_vit{size}16",
            f"vit_{sizes[size]}_patch16_224",
            options={"num_heads": 12},  # of ViT-S too, where others have 6
            checkpoint=f"{_FILES}/moco-v3/vit-{size}-300ep/vit-{size}-300ep.pth.tar",
            pos_embed="dino",
        )
    return {recipe.name: recipe for recipe in recipes}


def _import(library: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ImportError(
            f"backbones need {library} ({error}): pip install 'deepspec[models]'; classical features do without"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        raise ImportError(
            f"torch and torchvision are of different builds ({error}): install the three together, "
            "pip install torch torchvision timm"
        ) from error
