# make test           everything that must pass before a commit
# make docs-check     prints the length of each page; fails on long sentences, broken links, replaced words
# make lint           golangci-lint, where it can be downloaded
# make soak           a fleet of servers in chaos for five minutes, and with a Redis Cluster
# make fuzz           each fuzz target for a minute
# make mutate         finds single faults in the login code that no test notices (4 minutes)
# make bench          bench-code and bench-servers
# make bench-code     measures the code, and proxy_pass beside reverse_proxy
# make bench-servers  measures logins beside nginx, Apache, HAProxy, lighttpd and basic_auth, for docs/performance.md
# make bench-flood    measures a flood of wrong passwords, beside nginx and basic_auth

GO      ?= go
PLUGIN  := github.com/seed10b5b978/caddy-htpasswd
CADDY   := v2.11.9
XCADDY  := v0.4.5
LINTER  := v2.15.0
# The programs that tests run or compare with, each with its Debian package.
TOOLS   := htpasswd:apache2-utils openssl:openssl perl:perl nginx:nginx-light apache2:apache2 curl:curl argon2:argon2 prometheus:prometheus \
           fail2ban-regex:fail2ban chromium:chromium wget:wget git:git docker-registry:docker-registry skopeo:skopeo cadaver:cadaver script:bsdutils setfacl:acl \
           redis-server:redis-server redis-sentinel:redis-sentinel
# Debian's packages are for its own Python, which need not be the first on the path.
PASSLIB := /usr/bin/python3 -c 'import passlib, argon2' 2>/dev/null || python3 -c 'import passlib, argon2' 2>/dev/null

.PHONY: test tools check docs-check unit redis e2e unit-and-e2e xcaddy bench bench-code bench-servers bench-flood lint fuzz mutate soak

test: tools check docs-check unit-and-e2e xcaddy

# As root on Debian, installs missing programs. Anybody else is told what is missing:
# the tests that need it are skipped, which "go test -v" shows.
tools:
	@missing=; for tool in $(TOOLS); do \
		PATH="$$PATH:/usr/sbin" command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; \
	done; \
	{ $(PASSLIB); } || missing="$$missing python3-passlib python3-argon2"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing the Debian packages that tests compare with:$$missing"; \
		apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing; \
	else \
		echo "Not installed, so the tests that need them are skipped:$$missing"; \
		echo "These are Debian packages. On Debian, install them with: sudo make tools"; \
	fi

check:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-formatted: $$unformatted"; exit 1; fi
	$(GO) mod verify
	$(GO) vet ./...
	cd fleet/redis && $(GO) mod verify && $(GO) vet ./...

docs-check:
	@cd e2e && $(GO) run ./docscheck ..

# The race detector makes hashes slow, so some tests repeat less under it. Those of
# internal/crypt run a second time without it.
unit:
	PATH="$$PATH:/usr/sbin" $(GO) test -race -timeout 20m ./...
	PATH="$$PATH:/usr/sbin" $(GO) test -timeout 20m ./internal/crypt

# Tests the store for fleets in Redis, a module of its own, with real servers.
redis:
	cd fleet/redis && $(GO) test -race -timeout 20m ./...

# Runs all three at the same time, since redis and e2e mostly wait for other programs.
# Their output is printed at the end, in one piece.
unit-and-e2e:
	@mkdir -p build
	@$(MAKE) --no-print-directory e2e >build/e2e.txt 2>&1 & e2e=$$!; \
	$(MAKE) --no-print-directory redis >build/redis.txt 2>&1 & redis=$$!; \
	$(MAKE) --no-print-directory unit; unit=$$?; \
	wait $$redis; redis=$$?; \
	wait $$e2e; e2e=$$?; \
	cat build/redis.txt build/e2e.txt; \
	if [ $$unit != 0 ]; then echo "unit failed"; fi; \
	if [ $$redis != 0 ]; then echo "redis failed"; fi; \
	if [ $$e2e != 0 ]; then echo "e2e failed"; fi; \
	[ $$unit = 0 ] && [ $$redis = 0 ] && [ $$e2e = 0 ]

# Tests Caddy with the plugin against real programs. e2e is a module of its own.
e2e:
	cd e2e && PATH="$$PATH:/usr/sbin" $(GO) vet ./... && PATH="$$PATH:/usr/sbin" $(GO) test -timeout 20m ./...

# Builds Caddy with the plugin as users do, but from this directory. With a fixed
# version, nothing looks for the newest one.
xcaddy:
	$(GO) run github.com/caddyserver/xcaddy/cmd/xcaddy@$(XCADDY) build $(CADDY) --with $(PLUGIN)@v0.0.0=. --output build/caddy
	build/caddy list-modules | grep -x http.handlers.htpasswd
	build/caddy validate --config examples/Caddyfile
	$(GO) run github.com/caddyserver/xcaddy/cmd/xcaddy@$(XCADDY) build $(CADDY) --with $(PLUGIN)@v0.0.0=. --with $(PLUGIN)/fleet/redis@v0.0.0=./fleet/redis --output build/caddy-redis
	build/caddy-redis list-modules | grep -x htpasswd.fleets.redis

bench: bench-code bench-servers

bench-code:
	cd e2e && $(GO) test -run '^$$' -bench 'Verified|Users' -benchtime 0.3s -count 20 ./bench
	$(GO) test -run '^$$' -bench 'Parse|Select|Sticky' ./...
	cd e2e && $(GO) test -run '^$$' -bench ProxyPass -benchtime 1x ./bench
	$(GO) test -run '^$$' -bench . ./internal/crypt

# Needs the Debian packages wrk, nginx-light, apache2, haproxy, lighttpd and lighttpd-mod-openssl.
# Replaces the generated part of docs/performance.md, and docs/performance.svg.
bench-servers:
	cd e2e && $(GO) run ./speed

bench-flood:
	cd e2e && $(GO) run ./flood

# Fleets: faults at random for five minutes, and a Redis Cluster of three nodes.
soak:
	cd e2e && HTPASSWD_SOAK=1 HTPASSWD_CHAOS=5m PATH="$$PATH:/usr/sbin" $(GO) test -timeout 20m -count 1 -run 'TestChaos|TestCluster' -v ./fleet

lint:
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER) run ./...
	cd fleet/redis && $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER) run ./...
	cd e2e && $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER) run ./...

fuzz:
	@for module in . fleet/redis; do ( cd $$module && \
		for package in $$($(GO) list ./...); do \
			for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
				$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime 1m $$package || exit 1; \
			done; \
		done ) || exit 1; \
	done

mutate:
	cd e2e && $(GO) run ./mutate
