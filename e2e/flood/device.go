//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// The second part of the benchmark: first logins during floods from addresses that have
// not failed before, with and without a device cookie, and those of an office, which
// come at once from one network.

const (
	deviceCookie = "__Host-htpasswd-device"
	deviceSecret = "a secret of the flood benchmark only"
	officeUsers  = 50
)

// The users of the password file, by what they do in a row of the second part.
const (
	officeAlone   = baselineLogins
	officeFlooded = officeAlone + officeUsers
	holders       = officeFlooded + officeUsers
	strangers     = holders + (firstUsers-holders)/2
)

// Sources are where a flood's X-Forwarded-For fields say that it comes from.
const (
	manyNetworks = "many networks"
	oneNetwork   = "one IPv6 /48"
)

// rotated returns another address of a source.
func rotated(source string) string {
	if source == oneNetwork {
		return fmt.Sprintf("2001:db8:1:%x::1", rand.IntN(1<<16)) //nolint:gosec // not a secret
	}
	return fmt.Sprintf("%d.%d.%d.%d", 1+rand.IntN(126), rand.IntN(256), rand.IntN(256), 1+rand.IntN(254)) //nolint:gosec // not a secret
}

// deviceSite returns a Caddyfile with device cookies.
func deviceSite(dir string, port int) string {
	return caddySite(dir, port, "htpasswd {\nsecret \""+deviceSecret+"\"\n}\n", "htpasswd /private {\nfile "+dir+"/users\ndevice_cookie\n}")
}

// tokens returns a device cookie for each user who logs in with one, as the server would
// have issued it at an earlier login.
func tokens(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "users")) //nolint:gosec // a file of this program
	if err != nil {
		return nil, err
	}
	hashes := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		user, hash, _ := strings.Cut(strings.TrimSpace(line), ":")
		hashes[user] = hash
	}
	secret := keyring.NewKeys(deviceSecret, "")
	keys := devicecookie.NewKeys(secret.Devices, secret.OldDevices)
	values := make([]string, strangers)
	for i := holders; i < strangers; i++ {
		user := firstUser(i)
		owner := &devicecookie.Owner{User: []byte(user), Hash: hashes[user]}
		values[i] = keys.Issue(new(devicecookie.Candidates), owner, time.Now())
	}
	return values, nil
}

// officeAddress returns the address of a user of the office. All are in one network.
func officeAddress(i int) string { return fmt.Sprintf("127.2.0.%d", i%250+1) }

// atOnce logs in all users at the same time, each for the first time.
func (l load) atOnce(target *url.URL) *result {
	r := &result{Statuses: make(map[int]int)}
	start := time.Now()
	deadline := start.Add(l.Duration)
	var mu sync.Mutex
	var took []time.Duration
	var group sync.WaitGroup
	for i := l.First; i < l.First+l.Users; i++ {
		group.Go(func() {
			begin := time.Now()
			status, err := l.firstLogin(i, officeAddress(i), target, deadline)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.Failed++
				return
			}
			r.Statuses[status]++
			if status == http.StatusOK {
				took = append(took, time.Since(begin))
			}
		})
	}
	group.Wait()
	r.Duration = time.Since(start)
	slices.Sort(took)
	r.Median, r.P99 = percentile(took, 50), percentile(took, 99)
	return r
}

// deviceFlood is a row of the second part.
type deviceFlood struct {
	users       string // whom the flood guesses at, in words
	source      string
	connections int
	isKnown     bool
}

func (f deviceFlood) String() string {
	return fmt.Sprintf("device cookies, %s, %s, %d", f.source, f.users, f.connections)
}

// deviceFloods returns the rows of the second part.
func deviceFloods() (floods []deviceFlood) {
	for _, source := range []string{manyNetworks, oneNetwork} {
		for _, users := range []string{"unknown", "known"} {
			for _, connections := range []int{32, 200} {
				if source == manyNetworks || users == "unknown" {
					floods = append(floods, deviceFlood{users, source, connections, users == "known"})
				}
			}
		}
	}
	return floods
}

// runDevices prints the tables of the second part.
func runDevices(dir string) error {
	var rows []deviceFlood
	for _, f := range deviceFloods() {
		if strings.Contains(f.String(), *only) {
			rows = append(rows, f)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Println("\n| flood from | users | connections | one hash | with a device cookie: median, p99 in hashes | logins | without: median, p99 in hashes | logins | answers to the flood |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	office := []string{
		"| flood from | users | connections | office without the flood: median, last in hashes | logins | office during the flood: median, last in hashes | logins |",
		"|---|---|---|---|---|---|---|",
	}
	for _, f := range rows {
		row, err := measureDevices(dir, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		office = append(office, row)
	}
	fmt.Printf("\n%s\n", strings.Join(office, "\n"))
	return nil
}

// measureDevices prints the row of one flood, and returns its row about the office.
func measureDevices(dir string, f deviceFlood) (office string, err error) {
	hash, err := hashTime()
	if err != nil {
		return "", err
	}
	cookies, err := tokens(dir)
	if err != nil {
		return "", err
	}
	server, err := startCaddy(deviceSite)(dir)
	if err != nil {
		return "", err
	}
	defer server.Stop()
	longer := 3 * time.Duration(*seconds) * time.Second
	logins := func(first, users int) load {
		return load{Kind: "first", URL: server.URL + "/private", Password: password, First: first, Users: users}
	}
	officeLoad := func(first int) load {
		l := logins(first, officeUsers)
		l.AtOnce = true
		return l
	}
	baseline, err := logins(0, baselineLogins).run(longer)
	if err != nil {
		return "", err
	}
	alone, err := officeLoad(officeAlone).run(30 * time.Second)
	if err != nil {
		return "", err
	}
	if err := baseline.allGood(); err != nil {
		return "", err
	}

	flood := load{Kind: "flood", URL: server.URL + "/private", From: "127.0.0.2", Connections: f.connections, Rotate: true, Source: f.source, IsKnown: f.isKnown}
	end, err := flood.start(2*time.Second + 2*longer + 20*time.Second)
	if err != nil {
		return "", err
	}
	time.Sleep(2 * time.Second) // until all its connections are open
	with := logins(holders, strangers-holders)
	with.Cookies = cookies
	holder, err := with.run(longer)
	if err != nil {
		return "", err
	}
	stranger, err := logins(strangers, firstUsers-strangers).run(longer)
	if err != nil {
		return "", err
	}
	flooded, err := officeLoad(officeFlooded).run(15 * time.Second) // a login that has waited for 10 s gets 503
	if err != nil {
		return "", err
	}
	answers, err := end()
	if err != nil {
		return "", err
	}
	beginning := fmt.Sprintf("| %s | %s | %d |", f.source, f.users, f.connections)
	fmt.Printf("%s %d ms | %s | %s | %.0f/s: %s |\n", beginning, hash.Round(time.Millisecond).Milliseconds(),
		holder.inHashes(hash), stranger.inHashes(hash), answers.rate(), answers.statuses())
	return fmt.Sprintf("%s %s | %s |", beginning, alone.inHashes(hash), flooded.inHashes(hash)), nil
}

// inHashes formats the columns of first logins.
func (r *result) inHashes(hash time.Duration) string {
	in := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(hash)) }
	text := fmt.Sprintf("%s, %s | %d", in(r.Median), in(r.P99), r.Statuses[http.StatusOK])
	if r.Unfinished > r.P99 {
		text += fmt.Sprintf(", and one not answered within %s hashes", in(r.Unfinished))
	}
	if r.Failed > 0 || len(r.Statuses) > 1 {
		text += "; all: " + r.statuses()
	}
	return text
}
