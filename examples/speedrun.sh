#!/bin/sh
# From folders of aligned faces to a bundle with the networks of the default one, and its enlarger.
#
#     examples/speedrun.sh FACES UNSEEN FACES_1024 OUT
#
# FACES: to train on. UNSEEN: to evaluate on. FACES_1024: of at least 1024x1024 pixels.
# On an NVIDIA H200 the second command takes seven minutes; two CPU cores train 1.2 pictures a second. A call that was
# interrupted is continued by the same call. docs/training.md explains the recipes.
set -eu
faces=$1 unseen=$2 large=$3 out=$4

edgegrain metrics fetch

# Encoder and decoder from random weights, then with more blocks and levels in steps of 2.
edgegrain train stage1-faces-256-lr16 --data "$faces" --validation "$unseen" --run "$out/first" --resume \
    --pictures 251440
edgegrain train stage1-faces-256-lr16-deep --init-from "$out/first" --data "$faces" --validation "$unseen" \
    --run "$out/second" --resume --pictures 80640
edgegrain publish run "$out/second" --data "$faces" --out "$out/my-faces" --force --data-licence "Own photographs."

# 4 times as large, from the same payloads.
edgegrain train enlarge-faces-256-x4 --set "bundle=$out/my-faces" --data "$large" --run "$out/enlarger" --resume
edgegrain export enlarger "$out/enlarger" --into "$out/my-faces"

edgegrain evaluate --bundle "$out/my-faces" --data "$unseen" --out "$out/report"
edgegrain publish card "$out/my-faces" --evaluation "$out/report/my-faces-1.0.0.json"
