package mirror

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// The local copy is the text after one line, which is a comment in password and group
// files:
//
//	# Copy of fleet://staff. Edits are ignored. revision=R version=7 time=2026-11-26T10:00:00.123Z digest=D
//
// The digest, in hexadecimal, is that of the line without " digest=D", a line end and the
// text.

const (
	localStart  = "# Copy of "
	localAdvice = ". Edits are ignored. "
)

var (
	errNotACopy = errors.New("it is not a copy that this program has written")
	errEdited   = errors.New("it was changed, damaged, or written with another secret; edit the shared file instead")
)

// digest returns the digest of a local copy.
func (c *Config) digest(line, text string) []byte {
	data := []byte(line + "\n" + text)
	if c.Authenticator == nil {
		sum := sha256.Sum256(data)
		return sum[:]
	}
	return c.Authenticator.CopyDigest(data)
}

// check reports whether a digest is that of a local copy, and whether it was made with an
// older key.
func (c *Config) check(line, text string, digest []byte) (isOurs, isOld bool) {
	if hmac.Equal(c.digest(line, text), digest) {
		return true, false
	}
	if c.Authenticator == nil {
		return false, false
	}
	isOurs = c.Authenticator.IsCopyDigest([]byte(line+"\n"+text), digest)
	return isOurs, isOurs
}

// formatLocal returns the local copy of a version.
func (c *Config) formatLocal(v *Copy) string {
	line := fmt.Sprintf("%s%s%srevision=%s version=%d time=%s",
		localStart, c.Name, localAdvice, v.Revision, v.Version, v.Time.UTC().Format(time.RFC3339Nano))
	return line + " digest=" + hex.EncodeToString(c.digest(line, v.Text)) + "\n" + v.Text
}

// parseLocal parses a local copy. Errors contain nothing of it.
func (c *Config) parseLocal(copied string) (Copy, error) {
	first, text, hasText := strings.Cut(copied, "\n")
	line, digest, hasDigest := strings.Cut(first, " digest=")
	fields, isCopy := strings.CutPrefix(line, localStart+c.Name+localAdvice)
	if !hasText || !hasDigest || !isCopy {
		return Copy{}, errNotACopy
	}
	given, err := hex.DecodeString(digest)
	if err != nil {
		return Copy{}, errEdited
	}
	isOurs, isOld := c.check(line, text, given)
	if !isOurs {
		return Copy{}, errEdited
	}
	v := Copy{Text: strings.Clone(text), IsDue: isOld}
	parts := strings.Split(fields, " ")
	if len(parts) != 3 {
		return Copy{}, errNotACopy
	}
	revision, isRevision := strings.CutPrefix(parts[0], "revision=")
	number, isNumber := strings.CutPrefix(parts[1], "version=")
	written, isTime := strings.CutPrefix(parts[2], "time=")
	if !isRevision || !isNumber || !isTime || revision == "" {
		return Copy{}, errNotACopy
	}
	v.Revision = Revision(strings.Clone(revision))
	if v.Version, err = strconv.ParseUint(number, 10, 64); err != nil {
		return Copy{}, errNotACopy
	}
	if v.Time, err = time.Parse(time.RFC3339Nano, written); err != nil {
		return Copy{}, errNotACopy
	}
	return v, nil
}

// readLocal returns the local copy.
func (c *Config) readLocal() (Copy, error) {
	text, _, err := follow.ReadFile(c.Path)
	if err != nil {
		return Copy{}, err
	}
	return c.parseLocal(text)
}

// saver writes the local copy.
type saver struct {
	saved    Revision // in the file
	rejected Revision // by Config.Validate
	isWarned bool     // the file cannot be written
}

// save writes the local copy, if the file has another version.
func (m *Mirror) save() {
	own := m.state()
	revision := own.copy.Revision
	if !own.hasText || revision == m.saver.saved || revision == m.saver.rejected {
		return
	}
	if err := m.c.Validate(own.copy.Text); err != nil {
		m.saver.rejected = revision // the Follower reports it
		return
	}
	if err := writeLocal(m.c.Path, m.c.formatLocal(&own.copy)); err != nil {
		if !m.saver.isWarned {
			m.saver.isWarned = true
			m.c.Logger().Warn("cannot write local copy of shared file; this server cannot start while the store is down",
				zap.String("file", m.c.Name), zap.String("copy", m.c.Path), zap.Error(err))
		}
		return
	}
	m.saver.saved, m.saver.isWarned = revision, false
	m.mu.Lock()
	m.onDisk, m.localError = revision, nil // it is another one now
	m.mu.Unlock()
}

// writeLocal replaces a file that nobody else may read.
func writeLocal(path, text string) error {
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	removeLeftovers(dir, name)
	file, err := os.CreateTemp(dir, temporaryPrefix(name)+"*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// temporaryPrefix returns the prefix of temporary files. Names of shared files do not begin
// with a dot.
func temporaryPrefix(name string) string { return "." + name + ".caddy-htpasswd-new-" }

// leftoverAge is the age at which nobody writes a temporary file any more.
const leftoverAge = time.Hour

// removeLeftovers removes temporary files of servers that were killed.
func removeLeftovers(dir, name string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), temporaryPrefix(name)) {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}
