package caddyhtpasswd

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// sourceList returns the sources of users in their order.
func (h *Handler) sourceList() []Source {
	if len(h.Files) == 0 {
		return h.Sources
	}
	list := make([]Source, len(h.Files))
	for i, file := range h.Files {
		list[i].File = file
	}
	return list
}

// validateSources ensures that there are sources, each with one setting. Names of files
// are checked when they are loaded.
func (h *Handler) validateSources() error {
	switch {
	case len(h.Files) > 0 && len(h.Sources) > 0:
		return errors.New("sources: expected either files or sources, found both; write each file as {\"file\": \"<path>\"} in sources")
	case len(h.Files)+len(h.Sources) == 0:
		return errors.New("files: expected at least one password file, found none; write files, or sources with a file or the text of users")
	}
	for i, s := range h.Sources {
		if s.File == "" && s.Users == "" {
			return fmt.Errorf("sources: expected a file or users in entry %d, found neither", i+1)
		}
		if s.File != "" && s.Users != "" {
			return fmt.Errorf("sources: expected either a file or users in entry %d, found both", i+1)
		}
	}
	return nil
}

// provisionSources loads all sources of users and all group files, including those that
// are already in use: a reload of the configuration must not accept a broken file. label
// returns the label of a text of users.
func (h *Handler) provisionSources(label func(text string) string) error {
	var parts []userPart
	hasList := false
	for _, source := range h.sourceList() {
		part, err := h.provisionSource(source, label)
		if err != nil {
			return err
		}
		if part.list != nil {
			hasList = true
		} else {
			h.users.fixed = append(h.users.fixed, part.store)
		}
		parts = append(parts, part)
	}
	if hasList {
		h.users.listed = &listedUsers{parts: parts, logger: h.logger}
		h.users.listed.observe()
		h.toRelease(func() error { h.users.listed.close(); return nil })
	} else {
		h.users.fixed.warnOfShadowed(h.logger, nil)
	}
	for _, configured := range h.GroupFiles {
		store, err := h.provisionGroups(configured)
		if err != nil {
			return fmt.Errorf("group_file %w", err)
		}
		h.groups = append(h.groups, store)
	}
	return nil
}

func (h *Handler) provisionSource(source Source, label func(text string) string) (userPart, error) {
	s := &h.shared.sources
	if source.Users != "" {
		text, err := usersText(source.Users)
		if err != nil {
			return userPart{}, fmt.Errorf("users: %w", err)
		}
		a, err := s.acquireText(label(source.Users), text, h.logger)
		return userPart{store: a.store}, h.took(&a, err)
	}
	name, err := fileName(source.File)
	if err != nil {
		return userPart{}, fmt.Errorf("file %w", err)
	}
	if isSharedName(name) {
		a, err := acquireShared(h, name, sharedUsers)
		if err != nil {
			err = fmt.Errorf("file %w", err)
		}
		return userPart{store: a.store}, h.took(&a, err)
	}
	if follow.IsPattern(name) && !htfile.IsTextNotPath(name) {
		list, release, err := s.acquireList(name, h.logger)
		h.toRelease(release)
		if err != nil {
			return userPart{}, fmt.Errorf("file %w", err)
		}
		return userPart{list: list}, nil
	}
	a, err := acquire(s, name, newUserStore, h.logger)
	switch {
	case errors.Is(err, errTextAsPath):
		err = fmt.Errorf("file %w; for the text itself, write 'users' instead of 'file'", err)
	case err != nil:
		err = fmt.Errorf("file %w%s", err, a.howToCreate(err))
	}
	return userPart{store: a.store}, h.took(&a, err)
}

// took records a source that Cleanup has to release. If it was loaded without an error, it
// counts for the choice of decoys by its configured name.
func (h *Handler) took(a *acquired[*userStore], err error) error {
	h.toRelease(a.release)
	if err == nil {
		store, name := a.store, a.name
		store.name.add(name)
		h.toRelease(func() error { store.name.remove(name); return nil })
	}
	return err
}

func (h *Handler) provisionGroups(configured string) (*groupStore, error) {
	name, err := fileName(configured)
	if err != nil {
		return nil, err
	}
	if isSharedName(name) {
		a, err := acquireShared(h, name, sharedGroups)
		h.toRelease(a.release)
		return a.store, err
	}
	file, err := acquire(&h.shared.sources, name, newGroupStore, h.logger)
	h.toRelease(file.release)
	if errors.Is(err, fs.ErrNotExist) && follow.IsPattern(name) {
		err = fmt.Errorf("%w; expected the path of one file: patterns such as *.groups are for 'file' only", err)
	}
	return file.store, err
}

// toRelease records what Cleanup has to release.
func (h *Handler) toRelease(release func() error) {
	if release != nil {
		h.releases = append(h.releases, release)
	}
}
