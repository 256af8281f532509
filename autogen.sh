#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Makes configure. Needed once after a checkout; a release tarball brings configure along.
set -e
cd "$(dirname "$0")"
exec autoreconf --install --force
