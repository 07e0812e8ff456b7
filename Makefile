# Two words for a newcomer: `make run` serves with the demo model, `make test` runs every test. Both set up what is missing.
.POSIX:

run: build
	@exec build/imagined serve

# What is there already costs a few milliseconds. Where the libraries lie may change (a moved checkout): then the build starts anew.
build:
	@scripts/setup build
	@[ build/build.ninja -nt .deps/native.ini ] || { rm -rf build && \
		meson setup build --native-file .deps/native.ini >.deps/meson.log 2>&1 || { cat .deps/meson.log; exit 1; }; }
	@ninja -C build -n imagined | grep -q 'no work to do' || { echo 'build: compiling build/imagined'; ninja -C build --quiet imagined; }

test:
	@scripts/test

soak:
	@scripts/soak

bench: build
	@build/imagined bench

clean:
	rm -rf build build-*

.PHONY: run build test soak bench clean
