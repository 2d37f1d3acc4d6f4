package sealed

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	subkeyA = bytes.Repeat([]byte{0xa}, keyLen)
	subkeyB = bytes.Repeat([]byte{0xb}, keyLen)
	sealedA = NewKeys(subkeyA, nil)
	sealedB = NewKeys(subkeyB, nil)
	both    = NewKeys(subkeyB, subkeyA) // A is replaced by B
	noon    = time.UnixMilli(1_790_000_000_123).UTC()
)

const text = "alice:$2y$12$canary\nbob:$2y$12$canary\n"

func seal(t testing.TB, k *Keys, name, text string, version uint64) (Header, []byte) {
	t.Helper()
	h, data, err := k.SealText(name, text, version, noon)
	if err != nil {
		t.Fatal(err)
	}
	return h, data
}

func TestTexts(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		seal      *Keys
		open      *Keys
		isCurrent bool
		err       error
	}{
		{"one secret", sealedA, sealedA, true, nil},
		{"another secret", sealedA, sealedB, false, ErrOtherSecret},
		{"by the old secret, opened by both", sealedA, both, false, nil},
		{"by both, opened by the old one", both, sealedA, true, nil},
		{"by both, opened by the new one", both, sealedB, true, nil},
		{"by both, opened by both", both, both, true, nil},
		{"by the new secret, opened by both", sealedB, both, true, nil},
		{"by the new secret, opened by the old one", sealedB, sealedA, false, ErrOtherSecret},
	} {
		for _, text := range []string{"", "a", text} {
			h, data := seal(t, row.seal, "staff", text, 7)
			got, opened, isCurrent, err := row.open.OpenText("staff", data)
			if !errors.Is(err, row.err) || isCurrent != row.isCurrent {
				t.Errorf("%s: got current %t, error %v", row.name, isCurrent, err)
			}
			if err == nil && (got != h || opened != text) {
				t.Errorf("%s: got %v '%s', want %v '%s'", row.name, got, opened, h, text)
			}
			if bytes.Contains(data, []byte("alice")) {
				t.Errorf("%s: the text is readable", row.name)
			}
		}
	}
	if k := NewKeys(subkeyA, subkeyA); len(k.all) != 1 {
		t.Error("got two keys of equal secrets")
	}
}

// TestAnotherNameOrPurpose checks that nothing is accepted for another name or purpose.
func TestAnotherNameOrPurpose(t *testing.T) {
	t.Parallel()
	_, data := seal(t, both, "staff", text, 1)
	for _, name := range []string{"", "staf", "staff2", "Staff", "guests"} {
		if _, _, _, err := both.OpenText(name, data); !errors.Is(err, ErrForged) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, _, err := NewEvents(both).Open(data, noon); !errors.Is(err, ErrForged) {
		t.Errorf("a text as an event: got error %v", err)
	}
	event := NewEvents(both).Seal([]byte(text), noon)
	if _, _, _, err := both.OpenText("", event); !errors.Is(err, ErrForged) {
		t.Errorf("an event as a text: got error %v", err)
	}
	// The magic alone does not make the purpose.
	renamed := append([]byte(textKind.magic), event[magicLen:]...)
	if _, _, _, err := both.OpenText("", renamed); err == nil {
		t.Error("opened an event with another magic")
	}
}

// isUnchecked reports whether a byte of what both keys have sealed belongs to the wrap of
// the key that is not known.
func isUnchecked(kind *kind, known, i int) bool {
	wraps := magicLen + 1 + kind.fieldsLen + 1 + 2*idLen
	other := 1 - known
	return i >= wraps+other*wrapLen && i < wraps+(other+1)*wrapLen
}

// TestAnyBit checks that no bit can be changed, and nothing can be cut off or added,
// except for wraps of keys that are not known.
func TestAnyBit(t *testing.T) {
	t.Parallel()
	_, sealedText := seal(t, both, "staff", text, 7)
	sealedEvent := NewEvents(both).Seal([]byte(text), noon)
	for _, keys := range []struct {
		name  string
		keys  *Keys
		known int // the only key that is known; -1 for both
	}{
		{"both", both, -1},
		{"new", sealedB, 0},
		{"old", sealedA, 1},
	} {
		for _, row := range []struct {
			kind   *kind
			sealed []byte
			open   func(data []byte) (string, error)
		}{
			{&textKind, sealedText, func(data []byte) (string, error) {
				_, opened, _, err := keys.keys.OpenText("staff", data)
				return opened, err
			}},
			{&eventKind, sealedEvent, func(data []byte) (string, error) {
				body, _, err := NewEvents(keys.keys).Open(data, noon)
				return string(body), err
			}},
		} {
			if got, err := row.open(row.sealed); err != nil || got != text {
				t.Fatalf("%s %s: got '%s', error %v", keys.name, row.kind.purpose, got, err)
			}
			for i := range row.sealed {
				for bit := range 8 {
					changed := bytes.Clone(row.sealed)
					changed[i] ^= 1 << bit
					got, err := row.open(changed)
					if keys.known >= 0 && isUnchecked(row.kind, keys.known, i) {
						if err != nil || got != text {
							t.Errorf("%s %s: bit %d of byte %d, which is not checked: got '%s', error %v", keys.name, row.kind.purpose, bit, i, got, err)
						}
						continue
					}
					if err == nil || got != "" {
						t.Errorf("%s %s: opened with bit %d of byte %d changed", keys.name, row.kind.purpose, bit, i)
					}
				}
				if _, err := row.open(row.sealed[:i]); err == nil {
					t.Errorf("%s %s: opened the first %d bytes", keys.name, row.kind.purpose, i)
				}
			}
			if _, err := row.open(append(bytes.Clone(row.sealed), 0)); err == nil {
				t.Errorf("%s %s: opened with a byte more", keys.name, row.kind.purpose)
			}
		}
	}
}

// TestOldSecretCannotForge checks that somebody who has the old secret, and so the data key
// of what both secrets have sealed, cannot change it for servers with the new secret.
func TestOldSecretCannotForge(t *testing.T) {
	t.Parallel()
	_, data := seal(t, both, "staff", text, 7)
	headerLen := magicLen + 1 + textKind.fieldsLen + 1 + 2*idLen
	header, wraps, body := data[:headerLen], data[headerLen:headerLen+2*wrapLen], data[headerLen+2*wrapLen:]
	bound := boundTo(&textKind, "staff", header)
	dataKey, err := sealedA.all[0].wrap.Open(nil, nil, wraps[wrapLen:], withHash(bound, body))
	if err != nil {
		t.Fatal(err)
	}
	gcm := newGCM(dataKey)
	if got, err := gcm.Open(nil, nil, body, bound); err != nil || string(got) != text {
		t.Fatal("the attack does not have the data key")
	}
	forgedBody := gcm.Seal(nil, nil, []byte("mallory:x"), bound)
	forged := bytes.Join([][]byte{header, wraps[:wrapLen], sealedA.all[0].wrap.Seal(nil, nil, dataKey, withHash(bound, forgedBody)), forgedBody}, nil)
	if _, got, _, err := sealedA.OpenText("staff", forged); err != nil || got != "mallory:x" {
		t.Fatalf("the attack is wrong: got error %v", err)
	}
	for _, k := range []*Keys{sealedB, both} {
		if _, got, _, err := k.OpenText("staff", forged); !errors.Is(err, ErrForged) || got != "" {
			t.Errorf("got '%s', error %v", got, err)
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	_, data := seal(t, sealedA, "staff", text, 7)
	next := bytes.Clone(data)
	next[magicLen] = format + 1
	for _, row := range []struct {
		name string
		data []byte
		want error
	}{
		{"nothing", nil, ErrForged},
		{"another magic", []byte("alice:x\n"), ErrForged},
		{"the magic alone", []byte("HTPT"), ErrForged},
		{"the next format", next, ErrFormat},
		{"the next format alone", []byte("HTPT\x02"), ErrFormat},
		{"no keys", append(append([]byte("HTPT\x01"), make([]byte, textKind.fieldsLen+1)...), make([]byte, 200)...), ErrForged},
		{"too large", make([]byte, MaxText+1000), ErrTooLarge},
	} {
		if _, _, _, err := sealedA.OpenText("staff", row.data); !errors.Is(err, row.want) {
			t.Errorf("%s: got error %v, want %v", row.name, err, row.want)
		}
	}
}

func TestMaxText(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", MaxText)
	h, data := seal(t, both, "staff", large, 1)
	if _, got, _, err := both.OpenText("staff", data); err != nil || got != large {
		t.Errorf("got error %v for the largest text", err)
	}
	if _, _, err := both.SealText("staff", large+"x", 1, noon); !errors.Is(err, ErrTooLarge) || err.Error() != "larger than 4 MiB" {
		t.Errorf("got error %v", err)
	}
	if _, err := both.SealTextAs("staff", large+"x", h); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got error %v", err)
	}
	tooLarge := both.seal(&textKind, "staff", h.fields(), []byte(large+"x"))
	if _, _, _, err := both.OpenText("staff", tooLarge); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got error %v", err)
	}
}

// TestSealTextAs checks that a text that was lost keeps its version, time and digest.
func TestSealTextAs(t *testing.T) {
	t.Parallel()
	before, _ := seal(t, sealedA, "staff", text, 7)
	data, err := both.SealTextAs("staff", text, before)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*Keys{sealedA, sealedB, both} {
		after, got, isCurrent, err := k.OpenText("staff", data)
		if err != nil || after != before || after.Revision() != before.Revision() || got != text || !isCurrent {
			t.Errorf("got %v '%s' %t, error %v", after, got, isCurrent, err)
		}
	}
}

func TestDigests(t *testing.T) {
	t.Parallel()
	h, _ := seal(t, sealedA, "staff", text, 7)
	if again, _ := seal(t, sealedA, "staff", text, 7); again != h {
		t.Error("got another header of the same text")
	}
	for _, row := range []struct {
		reason     string
		keys       *Keys
		name, text string
		version    uint64
	}{
		{"secret", sealedB, "staff", text, 7},
		{"name", sealedA, "guests", text, 7},
		{"text", sealedA, "staff", text + "x", 7},
		{"version", sealedA, "staff", text, 8},
	} {
		if other, _ := seal(t, row.keys, row.name, row.text, row.version); other.Digest == h.Digest {
			t.Errorf("got the same digest of another %s", row.reason)
		}
	}
}

func TestCopyDigests(t *testing.T) {
	t.Parallel()
	data := []byte(text)
	old := sealedA.CopyDigest(data)
	if !sealedA.IsCopyDigest(data, old) || !both.IsCopyDigest(data, old) || !both.IsCopyDigest(data, both.CopyDigest(data)) || !sealedB.IsCopyDigest(data, both.CopyDigest(data)) {
		t.Error("got no digest of the current secret or the old one")
	}
	if sealedB.IsCopyDigest(data, old) || both.IsCopyDigest(data[1:], old) || both.IsCopyDigest(data, old[1:]) || both.IsCopyDigest(data, nil) {
		t.Error("accepted another digest")
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	headers := []Header{ // the older ones first
		{Version: 1, Time: noon, Digest: [16]byte{1}},
		{Version: 9, Time: noon, Digest: [16]byte{1}},
		{Version: 10, Time: time.UnixMilli(0).UTC(), Digest: [16]byte{1}},
		{Version: 10, Time: noon.Add(-time.Hour), Digest: [16]byte{9}},
		{Version: 10, Time: noon, Digest: [16]byte{0x09}},
		{Version: 10, Time: noon, Digest: [16]byte{0x10}},
		{Version: 10, Time: noon, Digest: [16]byte{0xf0}},
		{Version: 1<<64 - 1, Time: time.UnixMilli(maxMillis).UTC()},
	}
	for i, h := range headers {
		revision := h.Revision()
		if got, err := ParseRevision(revision); err != nil || got != h {
			t.Errorf("%s: got %v, error %v", revision, got, err)
		}
		if i > 0 && revision <= headers[i-1].Revision() {
			t.Errorf("%s is not greater than %s", revision, headers[i-1].Revision())
		}
		if len(revision) != revisionLen || strings.ContainsAny(revision, " \t\n") {
			t.Errorf("got revision '%s'", revision)
		}
	}
	valid := headers[0].Revision()
	if valid != "00000000000000000001-001790000000123-01000000000000000000000000000000" {
		t.Errorf("got %s", valid)
	}
	for _, invalid := range []string{
		"", "1", valid + "0", valid[1:], " " + valid[1:], "+" + valid[1:], strings.Replace(valid, "-", "_", 1), strings.ToUpper(valid[:37]) + "AB" + valid[39:],
		strings.Repeat("0", 20) + valid[20:], strings.Repeat("9", 20) + valid[20:], valid[:21] + "-" + valid[22:], valid[:37] + "zz" + valid[39:],
	} {
		if h, err := ParseRevision(invalid); !errors.Is(err, ErrRevision) {
			t.Errorf("%s: got %v, error %v", invalid, h, err)
		}
	}
	// Times that formats have no room for.
	for _, now := range []time.Time{{}, time.UnixMilli(-1), time.UnixMilli(maxMillis + 1)} {
		h, data, err := sealedA.SealText("staff", text, 1, now)
		if got, _, _, openErr := sealedA.OpenText("staff", data); err != nil || openErr != nil || got != h {
			t.Errorf("%s: got %v, errors %v, %v", now, got, err, openErr)
		}
		if got, err := ParseRevision(h.Revision()); err != nil || got != h {
			t.Errorf("%s: got %v, error %v", now, got, err)
		}
	}
}

// pinned are a text and an event that this version has sealed with both keys. Later
// versions must open them: servers of a fleet can run different versions.
const (
	pinnedText  = "48545054010000000000000007000001a0c4506c7bf0be0b14dead86c7ec167de1bdc0906a02c5e9f653b36dfd9ceaaa915046bc38da1ad90dae7690579d2bfe71f4d92fb40acb0f43d319455fb7441b5f5299c437dcb6356f16085a3acdcc8c90ff075ad500ff31a9214f424395db3b314f14f798e3433b9bf1b98451886db32a270c689a0230f7aa9c5a98649f43adc997a0d746535ddf7943aa30f77333dae8a4d778efbb50faa28685df59bd2f96f07836c7aa6d696af69bef06f9c0143840cc835b5ecf9b696dd3d98d3ac661cfacb07835b7b53319f85a932fbbf919867f0cf601a43a4d8b7617c12082671e47"
	pinnedEvent = "4854504501000001a0c4506c7b02c5e9f653b36dfd9ceaaa915046bc38da44ecaf1cc3e186db49f1147b69b905b2b26f3b2c6decd622973ed022ffd9264c62a504206157c7bca0b763b07a54c5d3aea219c50eb18e3ef4945388b534a385d4ed3272def0f77fa1fe4c09b8571bf74cdc22c0ca8a132fd3d53448bf80bb4cf7243dc4d4f205f7c884a67928da0414d736f238723cd4cc745ac96fde24086ee3e861dc0b8f0b065dc83568199ed4b97214bfd8c6be06ee0b97027a331cd316386df554dc9a57b2a206444b12916ee83fb78616b23870408f45"
)

func TestPinned(t *testing.T) {
	t.Parallel()
	data, err := hex.DecodeString(pinnedText)
	if err != nil {
		_, data := seal(t, both, "staff", text, 7)
		t.Fatalf("text %x\nevent %x", data, NewEvents(both).Seal([]byte(text), noon))
	}
	event, err := hex.DecodeString(pinnedEvent)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := seal(t, both, "staff", text, 7) // which pins the digest
	for _, k := range []*Keys{sealedA, sealedB, both} {
		if h, got, isCurrent, err := k.OpenText("staff", data); err != nil || h != want || got != text || !isCurrent {
			t.Errorf("text: got %v '%s' %t, error %v", h, got, isCurrent, err)
		}
		if body, sealed, err := NewEvents(k).Open(event, noon); err != nil || string(body) != text || !sealed.Equal(noon) {
			t.Errorf("event: got '%s' %s, error %v", body, sealed, err)
		}
	}
	if got := fmt.Sprintf("%x", sealedA.CopyDigest([]byte(text))); got != "0febe66950b50de1580793143c1f3573c6536689a1da1dd974d7a84f1653343f" {
		t.Errorf("got digest of a copy %s", got)
	}
}

func FuzzOpenText(f *testing.F) {
	_, data := seal(f, both, "staff", text, 7)
	f.Add("staff", data)
	f.Add("staff", data[:80])
	f.Add("", []byte("HTPT\x01"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		for _, k := range []*Keys{sealedA, sealedB, both} {
			if h, text, _, err := k.OpenText(name, data); err == nil {
				if h.Version == 0 {
					t.Error("opened version 0")
				}
				if _, err := ParseRevision(h.Revision()); err != nil {
					t.Error(err)
				}
			} else if text != "" || h != (Header{}) {
				t.Error("got a result with an error")
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add(NewEvents(both).Seal([]byte(text), noon), int64(0))
	f.Add([]byte("HTPE\x01"), int64(9999))
	f.Fuzz(func(t *testing.T, data []byte, skew int64) {
		e, now := NewEvents(both), noon.Add(time.Duration(skew))
		if body, _, err := e.Open(data, now); err == nil {
			if _, _, err := e.Open(data, now); !errors.Is(err, ErrRepeated) {
				t.Errorf("opened again: got error %v", err)
			}
		} else if body != nil {
			t.Error("got a result with an error")
		}
	})
}

func FuzzParseRevision(f *testing.F) {
	h, _ := seal(f, sealedA, "staff", text, 7)
	f.Add(h.Revision())
	f.Add("00000000000000000000-000000000000000-00000000000000000000000000000000")
	f.Fuzz(func(t *testing.T, revision string) {
		if h, err := ParseRevision(revision); err == nil && (h.Revision() != revision || h.Version == 0) {
			t.Errorf("got %v", h)
		}
	})
}

func BenchmarkOpenText(b *testing.B) {
	_, data := seal(b, both, "staff", strings.Repeat("x", MaxText), 1)
	b.SetBytes(MaxText)
	for b.Loop() {
		if _, _, _, err := both.OpenText("staff", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvent(b *testing.B) {
	e, body := NewEvents(both), []byte(`{"recognized":["0123456789abcdef"]}`)
	now := noon
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		if _, _, err := e.Open(e.Seal(body, now), now); err != nil {
			b.Fatal(err)
		}
	}
}
