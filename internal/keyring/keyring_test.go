package keyring

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const (
	secretA Secret = "canary-secret-AAAAAAAAAAAAAAAAAA"
	secretB Secret = "canary-secret-BBBBBBBBBBBBBBBBBB"
)

// TestSubkey pins the derivation: servers of a fleet can run different versions.
func TestSubkey(t *testing.T) {
	t.Parallel()
	for purpose, want := range map[Purpose]string{
		StickyPurpose:  "3c1f0e0c106cff3d651889d3b7f5ab2846cacbd867fe9da4b7c235f5a7c0bd1f",
		DevicesPurpose: "5200bad8dd69fd04974ee6504c4706fb5949408da17caf04ba866a51878a8c3e",
		DecoysPurpose:  "06e9d6754b44812fef0fd3ce262bede8fe82734af2e60022ef60c888507eeaf0",

		FleetCountersPurpose: "5f639369abca2bddae0c2792324ad28b74dd28c6807cc6e5a2f9013123d958db",
		FleetEventsPurpose:   "cbfb9c62528322123dab7797117e2d047c9d90a99599d3e958b16d2920ef56d4",
		FleetFilesPurpose:    "fe1b722723fa038b00a89f871be25bcd56d1e72c48e32b8d37ba5fe9a8f52513",
		FleetMarksPurpose:    "4a1c0752616791d4d226a94c0e0fc272f6daf9ceeb1b54b552bfa1f1fa7c4058",
	} {
		if got := hex.EncodeToString(secretA.Subkey(purpose)); got != want {
			t.Errorf("%s: got  %s\nwant %s", purpose, got, want)
		}
	}
	if bytes.Equal(secretA.Subkey(DecoysPurpose), secretA.Subkey("other")) {
		t.Error("got the same subkey for two purposes")
	}
	if bytes.Equal(secretA.Subkey(DecoysPurpose), secretB.Subkey(DecoysPurpose)) {
		t.Error("got the same subkey of two secrets")
	}
}

func TestSecretIsNotShown(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10v"} {
		texts = append(texts, fmt.Sprintf(verb, secretA), fmt.Sprintf(verb, struct{ S Secret }{secretA}), fmt.Sprintf(verb, []Secret{secretA}))
	}
	texts = append(texts, fmt.Sprint(secretA), errors.Join(fmt.Errorf("secret: %w", secretA[:10].Check())).Error())
	encoded, err := json.Marshal(map[string]any{"secret": secretA})
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	zap.New(core).Info("", zap.Any("any", secretA), zap.Stringer("stringer", secretA), zap.Reflect("reflect", secretA))
	logged, err := json.Marshal(logs.All()[0].ContextMap())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(texts, string(encoded), string(logged)) {
		if strings.Contains(text, "canary") || strings.Contains(text, hex.EncodeToString([]byte("canary"))) {
			t.Errorf("the secret is shown: %s", text)
		}
	}
}

func TestSecretCheck(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		secret Secret
		want   string
	}{
		{"an empty secret", "", "found 0"},
		{"a short secret", "canary", "expected at least 32 characters, found 6; create one with: openssl rand -base64 32"},
		{"one character short", secretA[1:], "found 31"},
		{"long in bytes, short in characters", Secret(strings.Repeat("ü", 31)), "found 31"},
		{"as short as allowed", secretA, ""},
		{"as short as allowed, not ASCII", Secret(strings.Repeat("ü", 32)), ""},
		{"a new secret", NewSecret(), ""},
	} {
		got := ""
		if err := row.secret.Check(); err != nil {
			got = err.Error()
		}
		if (got == "") != (row.want == "") || !strings.Contains(got, row.want) || strings.Contains(got, "canary") {
			t.Errorf("%s: got error '%s', want '%s'", row.name, got, row.want)
		}
	}
	if a, b := NewSecret(), NewSecret(); a == b {
		t.Error("got the same new secret twice")
	}
}

func TestDecoysFollowTheOldSecret(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name         string
		current, old Secret
		want         Secret
	}{
		{"only one secret", secretA, "", secretA},
		{"a new secret with the old one", secretB, secretA, secretA},
		{"the old secret removed", secretB, "", secretB},
	} {
		if got, want := NewKeys(row.current, row.old).Decoys, row.want.Subkey(DecoysPurpose); !bytes.Equal(got, want) {
			t.Errorf("%s: got the key of another secret", row.name)
		}
	}
}

// TestStickyKeysOfBothSecrets checks that servers with only one of two secrets share a
// key with servers that have both.
func TestStickyKeysOfBothSecrets(t *testing.T) {
	t.Parallel()
	both := NewKeys(secretB, secretA)
	if before := NewKeys(secretA, ""); !bytes.Equal(both.OldSticky, before.Sticky) || before.OldSticky != nil {
		t.Error("got no key of the old secret")
	}
	if after := NewKeys(secretB, ""); !bytes.Equal(both.Sticky, after.Sticky) {
		t.Error("got no key of the new secret")
	}
}

// TestDeviceKeysOfBothSecrets checks that device cookies of the old secret can be accepted.
func TestDeviceKeysOfBothSecrets(t *testing.T) {
	t.Parallel()
	before, both := NewKeys(secretA, ""), NewKeys(secretB, secretA)
	if before.OldDevices != nil || !bytes.Equal(before.Devices, secretA.Subkey(DevicesPurpose)) {
		t.Error("got other keys of one secret")
	}
	if !bytes.Equal(both.Devices, secretB.Subkey(DevicesPurpose)) || !bytes.Equal(both.OldDevices, before.Devices) {
		t.Error("got other keys of two secrets")
	}
}

// TestFleetKeysOfBothSecrets checks that a server with two secrets counts with those that
// have only the old one, and shares a key for events and files with all.
func TestFleetKeysOfBothSecrets(t *testing.T) {
	t.Parallel()
	before, both, after := NewKeys(secretA, ""), NewExplicitKeys(secretB, secretA), NewKeys(secretB, "")
	if before.OldFleetEvents != nil || before.OldFleetFiles != nil || before.IsExplicit || !both.IsExplicit {
		t.Error("got keys of an old secret without one, or the wrong IsExplicit")
	}
	for _, row := range []struct {
		purpose              Purpose
		before, old, current []byte
	}{
		{FleetEventsPurpose, before.FleetEvents, both.OldFleetEvents, both.FleetEvents},
		{FleetFilesPurpose, before.FleetFiles, both.OldFleetFiles, both.FleetFiles},
	} {
		if !bytes.Equal(row.old, row.before) || !bytes.Equal(row.old, secretA.Subkey(row.purpose)) || !bytes.Equal(row.current, secretB.Subkey(row.purpose)) {
			t.Errorf("%s: got other keys of two secrets", row.purpose)
		}
	}
	for _, row := range []struct {
		purpose             Purpose
		before, both, after []byte
	}{
		{FleetCountersPurpose, before.FleetCounters, both.FleetCounters, after.FleetCounters},
		{FleetMarksPurpose, before.FleetMarks, both.FleetMarks, after.FleetMarks},
	} {
		if !bytes.Equal(row.both, row.before) || !bytes.Equal(row.both, secretA.Subkey(row.purpose)) || !bytes.Equal(row.after, secretB.Subkey(row.purpose)) {
			t.Errorf("%s: got the key of another secret", row.purpose)
		}
	}
}

// TestLocalKeysHaveNoneForFleets checks that random keys have none for a fleet.
func TestLocalKeysHaveNoneForFleets(t *testing.T) {
	t.Parallel()
	k := NewRing(new(Fallback)).Keys()
	if k.FleetCounters != nil || k.FleetMarks != nil || k.FleetEvents != nil || k.OldFleetEvents != nil || k.FleetFiles != nil || k.OldFleetFiles != nil || k.IsExplicit {
		t.Error("got local keys for a fleet")
	}
}

// TestLocalKeysHaveNoneForDevices checks that no device cookie is made with keys that end
// with the process.
func TestLocalKeysHaveNoneForDevices(t *testing.T) {
	t.Parallel()
	ring := NewRing(new(Fallback))
	if k := ring.Keys(); k.Devices != nil || k.OldDevices != nil || k.Decoys == nil || k.Sticky == nil {
		t.Error("got local keys for device cookies, or none for another purpose")
	}
	ring.fallback.stored.Store(NewKeys(secretA, ""))
	if ring.Keys().Devices == nil {
		t.Error("got no key of the secret that an earlier configuration has loaded")
	}
}

// TestLocalKeys checks that the random keys stay known after a secret was loaded.
func TestLocalKeys(t *testing.T) {
	t.Parallel()
	ring := NewRing(new(Fallback))
	if ring.Local() != nil {
		t.Error("got local keys before their use")
	}
	local := ring.Keys()
	ring.Set(NewKeys(secretA, ""))
	if ring.Local() != local {
		t.Error("got no local keys after a secret was loaded")
	}
}

// TestRing checks that a ring always has keys, and that all rings have the same
// fallback keys.
func TestRing(t *testing.T) {
	t.Parallel()
	var fallback Fallback
	one, two := NewRing(&fallback), NewRing(&fallback)
	local := one.Keys()
	if len(local.Decoys) != subkeyLen {
		t.Fatalf("got a key of %d bytes, want %d", len(local.Decoys), subkeyLen)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if got := two.Keys(); got != local {
				t.Error("got other keys of the same fallback")
			}
		})
	}
	group.Wait()
	if other := NewRing(new(Fallback)).Keys(); bytes.Equal(other.Decoys, local.Decoys) {
		t.Error("got the same keys of two fallbacks, want random ones")
	}
	own := NewKeys(secretA, "")
	one.Set(own)
	if one.Keys() != own || two.Keys() != local {
		t.Error("got other keys, want those that were set, in this ring alone")
	}
}
