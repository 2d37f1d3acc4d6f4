package caddyhtpasswd

import (
	"github.com/spf13/cobra"

	"github.com/seed10b5b978/caddy-htpasswd/internal/tool"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "htpasswd",
		Usage:     "[flags] <file> <user> [<password>]",
		Short:     "Creates, edits and checks htpasswd files",
		Long:      tool.Help,
		CobraFunc: setUpTool,
	})
}

// setUpTool makes cmd the command "caddy htpasswd". Its exit codes become Caddy's.
func setUpTool(cmd *cobra.Command) {
	tool.SetUp(cmd, func(code tool.ExitCode, err error) error {
		if code <= 1 { // Caddy exits with 1 if, and only if, it gets the error
			return err
		}
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return int(code), nil })(cmd, nil)
	})
}
