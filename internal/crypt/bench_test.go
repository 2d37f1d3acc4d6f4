package crypt

import "testing"

// BenchmarkVerify takes the costs of htpasswd's and crypt(3)'s defaults.
func BenchmarkVerify(b *testing.B) {
	want := map[string]string{"bcrypt": "05", "sha256crypt": "5000", "sha512crypt": "5000"}
	done := make(map[string]bool)
	for _, v := range vectors(b) {
		if v.password != "secret" || v.cost != want[v.format] || done[v.format] {
			continue
		}
		done[v.format] = true
		b.Run(v.format, func(b *testing.B) {
			b.ReportAllocs()
			c, password := mustParse(b, v.hash), []byte(v.password)
			for b.Loop() {
				if !c.Verify(v.hash, password) {
					b.Fatal("does not verify")
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	done := make(map[string]bool)
	for _, v := range vectors(b) {
		if done[v.format] {
			continue
		}
		done[v.format] = true
		b.Run(v.format, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(v.hash); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
