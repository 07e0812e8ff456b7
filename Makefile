# Two words for a newcomer: `make run` serves with the demo model, `make test` runs every test. Both set up what is missing.
.POSIX:

run: build
	@exec build/imagined serve

build: .deps/.build
	@ninja -C build -n imagined | grep -q 'no work to do' || echo 'build: compiling build/imagined'
	@ninja -C build --quiet imagined

# Configured once; ninja itself configures again when a meson.build changes.
.deps/.build: scripts/setup
	@scripts/setup build
	@[ -f build/build.ninja ] || meson setup build --native-file .deps/native.ini >.deps/meson.log 2>&1 || { cat .deps/meson.log; exit 1; }
	@touch .deps/.build

test:
	@scripts/test

soak: build
	@scripts/soak

bench: build
	@build/imagined bench

clean:
	rm -rf build build-*  .deps/.build

.PHONY: run build test soak bench clean
