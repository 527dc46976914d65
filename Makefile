# Builds the boot images and the host tools, and runs everything around them.
# `make help` lists the targets. V=1 shows the commands, RELEASE=1 optimises.

FEATURES ?= attest,cocoonfs
# Keys (PEM files) of the servers whose secrets the image takes; none means anybody's.
TRUSTED_KBS_KEYS ?=
# First Secure Boot keys for a volume without UEFI variables, as options of `uefi-vars set`:
# --microsoft, or '--pk FILE --kek FILE --db FILE --dbx FILE'. They need the feature
# secureboot, which is added where there are keys.
SECUREBOOT ?=
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
BIN := bin

comma := ,
ifneq ($(SECUREBOOT),)
  override FEATURES := $(FEATURES),secureboot
  IMAGE_OPTIONS += --initial-set $(TARGET_DIR)/initial-set
else ifneq ($(filter secureboot,$(subst $(comma), ,$(FEATURES))),)
  $(error the feature secureboot needs the first keys: SECUREBOOT=--microsoft, or SECUREBOOT='--pk FILE --kek FILE --db FILE --dbx FILE')
endif

ifeq ($(RELEASE),1)
  PROFILE := release
  CARGO_FLAGS += --release
else
  PROFILE := debug
endif
ifeq ($(V),1)
  CARGO_FLAGS += --verbose
  say =
else
  .SILENT:
  say = @printf '  %-8s %s\n'
endif
MAKEFLAGS += --no-print-directory

RUST := scripts/toolchain.sh
CARGO := $(RUST) cargo
export CARGO_TARGET_DIR := $(TARGET_DIR)

# Bare metal: core and alloc are built from source for our own target; a stable
# compiler needs RUSTC_BOOTSTRAP for that. Build scripts look at that variable, so
# these builds have a directory of their own, or each kind would undo the other's.
# Paths of this machine are mapped away: the images do not depend on where they
# were built.
METAL_TARGET := kernel/x86_64-svsm.json
METAL_DIR := $(TARGET_DIR)/metal
METAL_OUT := $(METAL_DIR)/x86_64-svsm/$(PROFILE)
METAL_FLAGS := --target $(METAL_TARGET) -Zjson-target-spec \
  -Zbuild-std=core,alloc,compiler_builtins -Zbuild-std-features=compiler-builtins-mem
REMAP = --remap-path-prefix=$(CURDIR)=/svsm \
  --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo \
  --remap-path-prefix=$$($(RUST))/lib/rustlib/src/rust=/rust
METAL_ENV = CARGO_TARGET_DIR=$(METAL_DIR) RUSTC_BOOTSTRAP=1 RUSTFLAGS="$(REMAP)"

TOOLS := aproxy kbs-test igvmbuilder igvmmeasure guestlink uefi-vars vtpm-server vtpm-state

# Kernels that are for tests only: with checks of itself inside, with measurements and
# workloads, with services that the host can call, with reports that a test key signs,
# and with first Secure Boot keys. Each has the feature of its name, or what is said here.
TEST_IMAGES := selftest bench guestlink remanufacture mock-snp secureboot
guestlink-features := guestlink,vtpm,uefivars
remanufacture-features := $(guestlink-features),vtpm-remanufacture
mock-snp-features := mock-snp,cocoonfs
secureboot-features := guestlink,secureboot
secureboot-options = --initial-set $(TARGET_DIR)/microsoft-set

.PHONY: all help setup programs images test-images $(TEST_IMAGES:%=%-image) tools demo test test-full check unit e2e lint fmt \
  tpm-clients tpm-suites microsoft-set \
  clippy clippy-host clippy-metal shellcheck unsafe-report measurement reproducible doc bench bench-services proofs fuzz clean

all: images tools

help:
	echo 'make [FEATURES=attest,cocoonfs] [RELEASE=1] [V=1]   images and host tools, into bin/'
	echo 'make SECUREBOOT=--microsoft       the same, with first Secure Boot keys in the image'
	echo 'make demo      six boots on one image: attested, counted, a secret sealed and unsealed, Secure Boot'
	echo 'make test      every check: format, lints, unit tests, feature sets, end to end'
	echo 'make test-full make test, and what takes longer: an encrypted disk of a guest, all suites of TPM clients'
	echo 'make clippy    lints only (Rust and shell, format)'
	echo 'make reproducible  build the images once more in another place, and compare'
	echo 'make doc       API documentation, into target/doc'
	echo 'make bench     tables, and target/bench.json'
	echo 'make proofs    power cuts, kills, hostile disks and devices, exhaustion; target/proofs.json'
	echo 'make fuzz      each fuzz target for SECONDS_EACH seconds (default 60)'
	echo 'make clean     remove what was built (target/tools stays)'

setup:
	scripts/setup.sh

programs: setup
	$(say) BUILD 'stage2 and kernel for bare metal ($(PROFILE), features: $(or $(FEATURES),none))'
	$(METAL_ENV) $(CARGO) build $(CARGO_FLAGS) $(METAL_FLAGS) -p stage2 --bin stage2
	$(METAL_ENV) $(CARGO) build $(CARGO_FLAGS) $(METAL_FLAGS) -p svsm --bin svsm --features '$(FEATURES)'

# Outputs are put in place by a rename, so that a guest or a second make which is
# using the old ones is not disturbed.
images: tools programs
	$(say) IMAGE '$(BIN)/coconut-qemu.igvm $(BIN)/svsm-native.elf'
	[ -z '$(SECUREBOOT)' ] || $(BIN)/uefi-vars set $(SECUREBOOT) $(TARGET_DIR)/initial-set
	$(BIN)/igvmbuilder $(IMAGE_OPTIONS) --stage2 $(METAL_OUT)/stage2.elf --kernel $(METAL_OUT)/svsm.elf \
	  $(TRUSTED_KBS_KEYS:%=--trusted-kbs-key %) \
	  --igvm $(BIN)/.igvm.$$$$ --elf $(BIN)/.elf.$$$$ && \
	  mv -f $(BIN)/.igvm.$$$$ $(BIN)/coconut-qemu.igvm && \
	  mv -f $(BIN)/.elf.$$$$ $(BIN)/svsm-native.elf
	cp -f $(METAL_OUT)/stage2.elf $(METAL_OUT)/svsm.elf $(BIN)/

# Kernels that are for tests only, and the measurements of one of them for the host.
test-images: $(TEST_IMAGES:%=%-image)
	$(CARGO) build $(CARGO_FLAGS) -p svsm --features bench --example bench_persistence
	cp $(TARGET_DIR)/$(PROFILE)/examples/bench_persistence $(BIN)/.bench.$$$$ && \
	  mv -f $(BIN)/.bench.$$$$ $(BIN)/bench-persistence

$(TEST_IMAGES:%=%-image): %-image: tools
	$(say) BUILD '$* kernel'
	$(METAL_ENV) $(CARGO) build $(CARGO_FLAGS) $(METAL_FLAGS) -p stage2 --bin stage2
	$(METAL_ENV) $(CARGO) build $(CARGO_FLAGS) $(METAL_FLAGS) -p svsm --bin svsm --features '$(or $($*-features),$*)'
	$(BIN)/igvmbuilder $($*-options) --stage2 $(METAL_OUT)/stage2.elf --kernel $(METAL_OUT)/svsm.elf \
	  --elf $(BIN)/.$*.$$$$ && mv -f $(BIN)/.$*.$$$$ $(BIN)/svsm-$*.elf
	cp -f $(METAL_OUT)/svsm.elf $(BIN)/kernel-$*.elf

secureboot-image: microsoft-set
microsoft-set: tools
	$(BIN)/uefi-vars set --microsoft $(TARGET_DIR)/microsoft-set

tools: setup
	$(say) BUILD 'host tools ($(PROFILE))'
	$(CARGO) build $(CARGO_FLAGS) -p aproxy -p kbs-test -p igvmbuilder -p guestlink -p uefivars -p vtpm \
	  --features vtpm/server --bins
	mkdir -p $(BIN)
	for tool in $(TOOLS); do \
	  cp $(TARGET_DIR)/$(PROFILE)/$$tool $(BIN)/.$$tool.$$$$ && \
	  mv -f $(BIN)/.$$tool.$$$$ $(BIN)/$$tool || exit 1; \
	done
	ln -sf vtpm-server $(BIN)/swtpm

demo: all guestlink-image remanufacture-image
	scripts/demo.sh

# --- checks -------------------------------------------------------------------

test:
	$(MAKE) setup
	$(MAKE) lint
	$(MAKE) unit
	$(MAKE) test-images
	$(MAKE) all FEATURES=attest,cocoonfs
	$(MAKE) unsafe-report measurement reproducible doc
	$(MAKE) e2e
	$(MAKE) tpm-clients tpm-suites
	echo 'make test: all passed'

test-full: test
	$(CARGO) test $(CARGO_FLAGS) -p e2e --test disk_unlock -- --ignored
	echo 'make test-full: all passed'

lint: fmt shellcheck clippy-host clippy-metal
clippy: setup lint

fmt:
	$(say) FMT 'workspace'
	$(CARGO) fmt --all --check

shellcheck:
	$(say) LINT 'scripts'
	shellcheck scripts/*.sh .ci/run

# The kernel's features are listed once, in its manifest.
HOST_FEATURES = $(shell scripts/feature-sets.sh | tail -n 1 | sed 's:[^,]*:svsm/&:g'),vtpm/server

clippy-host:
	$(say) CLIPPY 'host'
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets --features '$(HOST_FEATURES)' -- -D warnings
	for set in '' attest; do \
	  printf '  %-8s %s\n' CLIPPY "kernel library, features: $${set:-none}"; \
	  $(CARGO) clippy $(CARGO_FLAGS) -q -p svsm --all-targets --features "$$set" -- -D warnings </dev/null || exit 1; \
	done

clippy-metal:
	$(METAL_ENV) $(CARGO) clippy $(CARGO_FLAGS) $(METAL_FLAGS) -p stage2 --bins -- -D warnings
	scripts/feature-sets.sh | while read -r set; do \
	  printf '  %-8s %s\n' CLIPPY "bare metal, features: $${set:-none}"; \
	  $(METAL_ENV) $(CARGO) clippy $(CARGO_FLAGS) $(METAL_FLAGS) -p svsm --features "$$set" -- -D warnings </dev/null || exit 1; \
	done

unit:
	$(say) TEST 'units, on the host'
	$(CARGO) test $(CARGO_FLAGS) --no-fail-fast --workspace --exclude e2e --features '$(HOST_FEATURES)'
	$(say) TEST 'each command of the TPM succeeds, as make bench measures it'
	$(TARGET_DIR)/$(PROFILE)/examples/command_streams >/dev/null
	$(say) TEST 'images against the published tool'
	COCOONFS_CLI='$(CURDIR)/target/tools/bin/cocoonfs' $(CARGO) test $(CARGO_FLAGS) --no-fail-fast \
	  -p svsm --features cocoonfs --test persistence -- --ignored
	COCOONFS_CLI='$(CURDIR)/target/tools/bin/cocoonfs' VIRT_FW_VARS='$(CURDIR)/target/tools/venv/bin/virt-fw-vars' \
	  $(CARGO) test $(CARGO_FLAGS) --no-fail-fast -p uefivars --test tool -- --ignored

unsafe-report:
	$(say) CHECK 'unsafe code only where the design has it'
	scripts/unsafe-report.sh

measurement:
	$(say) CHECK 'launch measurement against an independent implementation'
	$(CARGO) run -q $(CARGO_FLAGS) -p igvmbuilder --example all_directives $(TARGET_DIR)/all-directives.igvm
	target/tools/venv/bin/python scripts/check-measurement.py $(BIN)/igvmmeasure \
	  $(TARGET_DIR)/all-directives.igvm $(BIN)/coconut-qemu.igvm

# Builds once more, from a copy of the tree in another place.
reproducible:
	$(say) CHECK 'two clean builds give identical images'
	scripts/check-reproducible.sh '$(PROFILE)' $(BIN)/coconut-qemu.igvm $(BIN)/svsm-native.elf

e2e:
	$(say) TEST 'end to end, in QEMU'
	$(CARGO) test $(CARGO_FLAGS) --no-fail-fast -p e2e -- --test-threads=$(or $(E2E_THREADS),2)

# Clients of a TPM against the TPM server on the host.
tpm-clients: tools
	$(say) TEST 'clients of a TPM, with a restart of the server'
	scripts/tpm-clients.sh $(BIN)/vtpm-server

# Test suites of other projects; SUITES=pytss or SUITES=esapi runs one.
tpm-suites: tools
	scripts/setup.sh suites
	$(say) TEST 'test suites of TPM clients ($(or $(SUITES),all))'
	scripts/tpm-suites.sh $(or $(SUITES),all) $(BIN)/vtpm-server

# --- and the rest ---------------------------------------------------------------

doc: setup
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' $(CARGO) doc $(CARGO_FLAGS) --workspace --no-deps --document-private-items --features '$(HOST_FEATURES)'
	echo 'open $(TARGET_DIR)/doc/svsm/index.html'

# The CPU's instructions for cryptography against the same code without them, both
# optimised as for production; each kind of build has a directory of its own.
bench: all test-images
	scripts/setup.sh bench
	$(say) BUILD 'optimised, with and without instructions for cryptography'
	$(CARGO) build --release -p svsm --features bench --example bench_persistence
	cp $(TARGET_DIR)/release/examples/bench_persistence $(BIN)/bench-persistence-hw
	RUSTFLAGS='--cfg aes_force_soft' CARGO_TARGET_DIR=$(TARGET_DIR)/soft $(CARGO) build --release \
	  -p svsm -p e2e --features svsm/bench,e2e/soft-crypto --example bench_persistence
	cp $(TARGET_DIR)/soft/release/examples/bench_persistence $(BIN)/bench-persistence-soft
	$(MAKE) bench-services
	$(CARGO) run $(CARGO_FLAGS) -q -p e2e --bin bench -- --output target/bench.json

# The vTPM in both kinds of build, what it is measured with, and kernels with and without it.
bench-services:
	$(say) BUILD 'what measures the services'
	$(CARGO) build --release -p svsm -p vtpm --features svsm/bench,svsm/vtpm,svsm/uefivars,vtpm/server \
	  --example bench_vtpm --example bench_uefi --example tpm_latency --example command_streams --bin vtpm-server
	$(CARGO) build -p svsm --features bench,vtpm --example bench_vtpm
	cp $(TARGET_DIR)/release/vtpm-server $(BIN)/bench-vtpm-server
	cp $(TARGET_DIR)/release/examples/tpm_latency $(BIN)/bench-tpm-latency
	cp $(TARGET_DIR)/release/examples/bench_vtpm $(BIN)/bench-vtpm
	cp $(TARGET_DIR)/debug/examples/bench_vtpm $(BIN)/bench-vtpm-debug
	cp $(TARGET_DIR)/release/examples/bench_uefi $(BIN)/bench-uefi
	$(TARGET_DIR)/release/examples/command_streams > $(BIN)/bench-tpm-commands
	for added in '' -vtpm; do \
	  $(METAL_ENV) $(CARGO) build --release $(METAL_FLAGS) -p svsm --bin svsm \
	    --features "attest,cocoonfs,guestlink$$(echo $$added | tr - ,)" && \
	  cp $(METAL_DIR)/x86_64-svsm/release/svsm.elf $(BIN)/bench-kernel$$added.elf || exit 1; \
	done

# Optimised always: there are some hundred thousand mounts to make.
proofs: all test-images
	$(say) PROVE 'power cuts, hostile disks, hostile devices, exhaustion, swtpm, kills (about 30 minutes)'
	mkdir -p target && rm -f target/proofs.json
	PROOFS=full PROOFS_JSON='$(CURDIR)/target/proofs.json' $(CARGO) test --release -p svsm \
	  --features cocoonfs,uefivars,vtpm --test proofs --test hostile_device --test heap_exhaustion
	PROOFS=full PROOFS_JSON='$(CURDIR)/target/proofs.json' $(CARGO) test --release -p vtpm \
	  --test differential -- --nocapture
	KILLS=$(or $(KILLS),100) PROOFS_JSON='$(CURDIR)/target/proofs.json' $(CARGO) test $(CARGO_FLAGS) -p e2e --test kills --test tpm_kills --test variable_kills
	sed -n 's/^ *"\(.*\)": \([0-9]*\),*$$/\1 \2/p' target/proofs.json | \
	  while read -r key number; do printf '%-40s %10d\n' "$$key" "$$number"; done

fuzz:
	scripts/setup.sh fuzz
	scripts/fuzz.sh $(or $(SECONDS_EACH),60)

clean:
	rm -rf $(BIN)
	$(CARGO) clean
