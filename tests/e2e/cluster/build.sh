#!/bin/sh
# Builds the test API server into the given directory; cached by Go, cold about seven minutes on two cores.
set -eu
cd "$(dirname "$0")"
version=v1.36.3
base=k8s.io/component-base/version
exec go build -o "$1/apiserver" -ldflags \
    "-s -w -X $base.gitVersion=$version -X $base.gitMajor=1 -X $base.gitMinor=36" .
