# husk: a thin door to meson. Each target installs what it needs first (scripts/setup, apt).

# The distribution's tools, not what a version manager put in front of them.
export PATH := /usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
export PYTHONDONTWRITEBYTECODE := 1

PREFIX ?= /usr/local

.PHONY: all asan fuzz demo test bench lint install clean

all:
	@scripts/setup build
	@scripts/build build

# AddressSanitizer and UndefinedBehaviorSanitizer: build-asan/husk
asan:
	@scripts/setup build
	@scripts/build build-asan

# libFuzzer harnesses, with clang: build-fuzz/tests/fuzz/fuzz-*
fuzz:
	@scripts/setup build test
	@scripts/build build-fuzz

demo: all
	@scripts/setup demo
	@scripts/demo

test: all
	@scripts/setup test
	@scripts/test

bench: all
	@scripts/setup demo
	@scripts/bench

lint: all
	@scripts/setup lint
	@scripts/lint

install: all
	@meson configure build -Dprefix=$(abspath $(PREFIX))
	@meson install -C build

clean:
	rm -rf build build-asan build-fuzz build-analyzer
