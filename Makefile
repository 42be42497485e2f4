# A thin front: everything real is in meson.build and tools/.
#   make run     install what is missing, build a release, start a standalone server
#   make build   install what is missing, build build/release/elanus
#   make test    install what the tests need, build with sanitizers, run every suite
#   make docs    write the generated pages of docs/
DATA ?= ./elanus-data

.PHONY: run build test docs
run: build
	tools/run.sh --data $(DATA)

build:
	tools/deps.sh build
	tools/build.sh release

test:
	tools/deps.sh test
	tools/test.sh

docs: build
	build/release/elanus help configuration > docs/configuration.md
