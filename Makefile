# make test         everything that has to hold before a commit
# make bench        all figures: those of the code, and those of servers
# make bench-code     the figures in the README
# make bench-servers  docs/performance.md: what a password costs, beside nginx, Apache, HAProxy, lighttpd, basic_auth
# make bench-flood  what a flood of wrong passwords does, beside nginx and basic_auth
# make lint         golangci-lint, where it can be had
# make fuzz         each fuzz target for a minute
# make mutate       single faults in the code of a login: which one does no test notice? 4 minutes

GO      ?= go
PLUGIN  := github.com/seed10b5b978/caddy-htpasswd
CADDY   := v2.11.9
XCADDY  := v0.4.5
LINTER  := v2.15.0
# The real programs that the tests compare with, by command and Debian package.
TOOLS   := htpasswd:apache2-utils openssl:openssl perl:perl nginx:nginx-light apache2:apache2 curl:curl argon2:argon2 prometheus:prometheus \
           fail2ban-regex:fail2ban chromium:chromium wget:wget git:git docker-registry:docker-registry skopeo:skopeo cadaver:cadaver script:bsdutils setfacl:acl
# Debian's packages are for its own Python, which need not be the first on the path.
PASSLIB := /usr/bin/python3 -c 'import passlib, argon2' 2>/dev/null || python3 -c 'import passlib, argon2' 2>/dev/null

.PHONY: test tools check unit e2e unit-and-e2e xcaddy bench bench-code bench-servers bench-flood lint fuzz mutate

test: tools check unit-and-e2e xcaddy

# Installs what is missing where that can be done without asking; tests that
# lack a program are skipped and say so.
tools:
	@missing=; for tool in $(TOOLS); do \
		PATH="$$PATH:/usr/sbin" command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; \
	done; \
	{ $(PASSLIB); } || missing="$$missing python3-passlib python3-argon2"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing$$missing"; \
		apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing; \
	else \
		echo "MISSING:$$missing (Debian packages). The tests that compare with them are skipped."; \
	fi

check:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-formatted: $$unformatted"; exit 1; fi
	$(GO) mod verify
	$(GO) vet ./...

# Under the race detector, some tests repeat less.
unit:
	PATH="$$PATH:/usr/sbin" $(GO) test -race -timeout 20m ./...
	PATH="$$PATH:/usr/sbin" $(GO) test -timeout 20m ./internal/crypt

# Both at the same time, since e2e waits for other programs most of its time.
# What e2e says comes behind, in one piece.
unit-and-e2e:
	@mkdir -p build
	@$(MAKE) --no-print-directory e2e >build/e2e.txt 2>&1 & e2e=$$!; \
	$(MAKE) --no-print-directory unit; unit=$$?; \
	wait $$e2e; e2e=$$?; \
	cat build/e2e.txt; \
	if [ $$unit != 0 ]; then echo "unit has failed"; fi; \
	if [ $$e2e != 0 ]; then echo "e2e has failed"; fi; \
	[ $$unit = 0 ] && [ $$e2e = 0 ]

# Runs Caddy as users build it, beside and against real programs. A module of
# its own.
e2e:
	cd e2e && PATH="$$PATH:/usr/sbin" $(GO) vet ./... && PATH="$$PATH:/usr/sbin" $(GO) test -timeout 20m ./...

# Builds Caddy with the plugin as users do, from this directory: with the version
# given, no registry is asked for one.
xcaddy:
	$(GO) run github.com/caddyserver/xcaddy/cmd/xcaddy@$(XCADDY) build $(CADDY) --with $(PLUGIN)@v0.0.0=. --output build/caddy
	build/caddy list-modules | grep -x http.handlers.htpasswd
	build/caddy validate --config examples/Caddyfile

bench: bench-code bench-servers

bench-code:
	cd e2e && $(GO) test -run '^$$' -bench 'Verified|Users' -benchtime 0.3s -count 20 ./bench
	$(GO) test -run '^$$' -bench 'Parse|Select' ./...
	cd e2e && $(GO) test -run '^$$' -bench ProxyPass -benchtime 1x ./bench
	$(GO) test -run '^$$' -bench . ./internal/crypt

# Needs Debian's wrk, nginx-light, apache2, haproxy, lighttpd and lighttpd-mod-openssl.
bench-servers:
	cd e2e && $(GO) run ./speed

bench-flood:
	cd e2e && $(GO) run ./flood

lint:
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER) run ./...
	cd e2e && $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER) run ./...

fuzz:
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime 1m $$package || exit 1; \
		done; \
	done

mutate:
	cd e2e && $(GO) run ./mutate
