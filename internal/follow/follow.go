// Package follow reads files that change while they are in use.
package follow
