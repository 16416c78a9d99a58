"""ViT-B/16 of AugReg on Oxford-IIIT Pet, in few shots and with all examples.

Weights: Steiner et al., arXiv 2106.10270, ImageNet-21k, which timm published and the command
downloads. Protocol of the few shots: ViT, arXiv 2010.11929, with a penalty chosen on validation
(the last 2 % of the training split); ``--config.few_shot.penalties="(1024.0,)"`` is big_vision's.
Not run by us. Cost: 7,349 images once through the network, minutes on a GPU; the rest is seconds.

Needs oxford_iiit_pet prepared in --data_dir; without it the command says how to prepare it.

    python -m apps.transfer.main --config=apps/transfer/configs/pets_vit_b16.py \
        --data_dir=DATA --output=runs/pets_vit_b16
"""


def get_config():
    return {
        "dataset": {"name": "oxford_iiit_pet"},
        "model": {"name": "vit_base_patch16_224"},
        "weights": "vit_base_patch16_224.augreg_in21k",
    }
