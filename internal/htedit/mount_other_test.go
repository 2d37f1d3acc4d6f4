//go:build unix && !linux

package htedit

import "errors"

func mountSmall(string) error { return errors.New("mounts only on Linux") }

func unmount(string) {}
