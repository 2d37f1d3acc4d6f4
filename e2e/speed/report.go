package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// write writes the table and the chart.
func write(rows []row, m *million) error {
	table := page(rows, m)
	fmt.Print(table)
	if *out == "" {
		return nil
	}
	if err := os.WriteFile(filepath.Join(*out, "performance.md"), []byte(table), 0o644); err != nil { //nolint:gosec // a page
		return err
	}
	return os.WriteFile(filepath.Join(*out, "performance.svg"), []byte(chart(rows)), 0o644) //nolint:gosec // a picture
}

func page(rows []row, m *million) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# What asking for a password costs

Made by `+"`make bench-servers`"+` on %s: %s, %d cores, %s, one run. Servers, application (an nginx that answers "ok") and load
(wrk, %d connections kept open, one thread, %d s each) share the machine: compare the ratios of one run, not with other machines.

%s

Each server passes requests on to the application. They are of three kinds: for a path that needs no password, without one ("none sent"); for the same path with one
("sent": servers have to read and pass on a header more); and for a path that needs the password that is sent ("asked for"), of the user in the middle of the file.
The ratio is "asked for" to "sent": the same request, where a password is needed and where not (this plugin does not pass the password on). For the two that are Caddy it is the median of the table by turns,
which is more exact than the two figures beside it. p50, p99 and the processor time that the server takes for an answer are of "asked for".
A server that does not know a format is not listed with it, nor HAProxy with 100,000 users, for which it takes more than a minute to start.
Caches are on: Apache's mod_authn_socache, lighttpd's auth.cache, that of basic_auth. [Where the time goes](where-the-time-goes.md) says why some are ahead.

![requests a second with a password](performance.svg)

`, time.Now().Format("2 January 2006"), cpu(), runtime.NumCPU(), runtime.Version(), connections, *seconds, versions())
	b.WriteString(turnsTable(rows))
	for _, https := range []bool{false, true} {
		fmt.Fprintf(&b, "## Requests a second, %s\n\n", scheme(https))
		b.WriteString("| hash | users | server | none sent | sent | asked for | ratio | p50 | p99 | processor |\n|---|---|---|---|---|---|---|---|---|---|\n")
		for i := range rows {
			if r := &rows[i]; r.https == https {
				s, digits := r.plain[asked], 2
				if r.rounds != nil {
					digits = 3
				}
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %.*f | %s | %s | %s |\n", r.format.name, number(float64(r.users)), r.server,
					number(r.plain[bare].rate), number(r.plain[sent].rate), number(s.rate), digits, r.askedTo(sent).median, short(s.p50), short(s.p99), short(s.cpu))
			}
		}
		b.WriteString("\n")
	}
	if m != nil {
		fmt.Fprintf(&b, `## A million users

A file of 1,000,000 users ({SHA}), HTTPS. From the start of the process to the first answer with a password: %.1f s. p99 in calm %s, while a new version of the
file is read %s (%.1f times), no request failed. A user who is new in it was let in %.1f s after the change.
`, m.start.Seconds(), short(m.calm.p99), short(m.swap.p99), float64(m.swap.p99)/float64(m.calm.p99), m.newUserIn.Seconds())
	}
	return b.String()
}

// turnsTable is the table of ratios from rounds.
func turnsTable(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, `## With and without, by turns

The same connections ask for each kind in turn, a tenth of a second each, for %d s: what the machine does meanwhile is the same for all of them. A round is each kind twice.
Medians of the ratios of the rounds; in brackets, the middle half of the rounds, and the least and the most.

| hash | users | | server | rounds | asked for, to sent | asked for, to none sent |
|---|---|---|---|---|---|---|
`, *byTurn)
	for i := range rows {
		if r := &rows[i]; r.rounds != nil {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %d | %s | %s |\n", r.format.name, number(float64(r.users)), scheme(r.https), r.server, len(r.rounds), r.askedTo(sent), r.askedTo(bare))
		}
	}
	b.WriteString("\n")
	return b.String()
}

func (s spread) String() string {
	return fmt.Sprintf("%.3f (%.2f to %.2f; %.2f to %.2f)", s.median, s.quarter, s.threeQuarters, s.least, s.most)
}

func scheme(https bool) string {
	if https {
		return "HTTPS"
	}
	return "HTTP"
}

func short(d time.Duration) string {
	switch {
	case d < 100*time.Microsecond:
		return fmt.Sprintf("%.0f µs", d.Seconds()*1e6)
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// number writes a number with commas.
func number(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// cpu returns the name of the processor.
func cpu() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	_, rest, _ := strings.Cut(string(text), "model name")
	_, rest, _ = strings.Cut(rest, ":")
	name, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(name)
}

func versions() string {
	caddy, _, _ := strings.Cut(strings.TrimPrefix(caddyVersion, "v"), " ")
	return fmt.Sprintf("Versions: Caddy %s; %s; %s; %s; %s.", caddy, version("nginx", "-v"), version("apache2", "-v"), version("haproxy", "-v"), version("lighttpd", "-v"))
}

// chart draws the requests a second with a password over HTTPS, for the file
// of a thousand users, on a logarithmic scale.
func chart(rows []row) string {
	const (
		users             = 1_000
		left, width       = 250.0, 560.0
		bar, gap, between = 14.0, 3.0, 22.0
	)
	colors := map[string]string{plugin: "#1f7a4d"}
	var b strings.Builder
	y := 46.0
	for _, f := range formats {
		any := false
		for i := range rows {
			r := &rows[i]
			if !r.https || r.users != users || r.format != f {
				continue
			}
			if !any {
				any = true
				fmt.Fprintf(&b, "<text x=\"10\" y=\"%.0f\" font-weight=\"bold\">%s</text>\n", y+11, f.name)
			}
			rate := r.plain[asked].rate
			length := max(width*math.Log10(max(rate, 1))/5, 1)
			color := colors[r.server]
			if color == "" {
				color = "#9aa5b1"
			}
			fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">%s</text>\n", left-6, y+11, r.server)
			fmt.Fprintf(&b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"%s\"/>\n", left, y, length, bar, color)
			fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%.0f\">%s</text>\n", left+length+5, y+11, number(rate))
			y += bar + gap
		}
		if any {
			y += between - gap
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="900" height="%.0f" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
<text x="10" y="24" font-size="15">Requests a second with a password, HTTPS, %s users in the file (logarithmic scale)</text>
%s</svg>
`, y+10, number(users), b.String())
}
