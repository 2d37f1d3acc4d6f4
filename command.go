package caddyhtpasswd

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

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
	tool.SetUp(cmd, askCaddy, func(code tool.ExitCode, err error) error {
		if code <= 1 { // Caddy exits with 1 if, and only if, it gets the error
			return err
		}
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return int(code), nil })(cmd, nil)
	})
}

// askCaddy is a tool.AdminAPI. It finds the admin API as other commands of Caddy do.
func askCaddy(address, method, path string, body []byte) (answer tool.AdminAnswer, err error) {
	if answer.Address, err = caddycmd.DetermineAdminAPIAddress(address, nil, "", ""); err != nil {
		return answer, err
	}
	var reader io.Reader // not a typed nil, which would be a body
	if body != nil {
		reader = bytes.NewReader(body)
	}
	response, err := caddycmd.AdminAPIRequest(answer.Address, method, path, http.Header{}, reader)
	if err != nil {
		if status, said, ok := parseRefusal(err.Error()); ok {
			answer.Status, answer.Body = status, []byte(said)
			return answer, nil
		}
		return answer, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "performing request: "))
	}
	defer response.Body.Close()
	answer.Status = response.StatusCode
	answer.Body, err = io.ReadAll(response.Body)
	return answer, err
}

// parseRefusal returns the status and body of an answer of 400 or more, which Caddy
// returns as the text of an error only.
func parseRefusal(text string) (status int, body string, ok bool) {
	rest, ok := strings.CutPrefix(text, "caddy responded with error: HTTP ")
	code, body, found := strings.Cut(rest, ": ")
	status, err := strconv.Atoi(code)
	return status, body, ok && found && err == nil
}
