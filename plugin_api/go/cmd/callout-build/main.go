// SPDX-License-Identifier: Apache-2.0

// Command callout-build builds a plugin in Go.
//
//	go run callout.test/callout/cmd/callout-build -o guard.so [PACKAGE]
//
// It reads the package's sources for methods that are hooks (OnRequestHeaders, …), and builds the shared object so
// that it exports these and no other, nor anything of Go's. GOFLAGS and CGO_CFLAGS hold as for go build.
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// hooks are methods, and the functions of the ABI that they become.
var hooks = map[string]string{
	"OnRequestHeaders":   "callout_on_request_headers",
	"OnResponseHeaders":  "callout_on_response_headers",
	"OnRequestBody":      "callout_on_request_body",
	"OnResponseBody":     "callout_on_response_body",
	"OnRequestTrailers":  "callout_on_request_trailers",
	"OnResponseTrailers": "callout_on_response_trailers",
	"OnCheck":            "callout_on_check",
	"OnRateLimit":        "callout_on_rate_limit",
	"OnConnection":       "callout_on_connection",
	"OnReadData":         "callout_on_read_data",
	"OnWriteData":        "callout_on_write_data",
}

// What every plugin exports.
var always = []string{
	"callout_abi_version", "callout_abi_revision", "callout_plugin_create", "callout_plugin_destroy",
	"callout_on_stream_open", "callout_on_stream_close", "callout_on_stream_cancel",
}

func main() {
	output := flag.String("o", "", "the shared object to write")
	flag.Parse()
	directory := "."
	if flag.NArg() > 0 {
		directory = flag.Arg(0)
	}
	if *output == "" || flag.NArg() > 1 {
		fmt.Fprintln(os.Stderr, "callout-build: usage: callout-build -o FILE.so [PACKAGE]")
		os.Exit(2)
	}
	if err := buildPlugin(directory, *output); err != nil {
		fmt.Fprintln(os.Stderr, "callout-build:", err)
		os.Exit(1)
	}
}

func buildPlugin(directory, output string) error {
	found, ofStreams, err := findHooks(directory)
	if err != nil {
		return err
	}
	script, err := os.CreateTemp("", "callout-*.map")
	if err != nil {
		return err
	}
	defer os.Remove(script.Name())
	fmt.Fprintf(script, "{ global: %s; local: *; };\n", strings.Join(append(found, always...), "; "))
	if err := script.Close(); err != nil {
		return err
	}
	path, err := filepath.Abs(output)
	if err != nil {
		return err
	}
	// The linker writes a new file: what a host has loaded stays as it is.
	draft := path + ".new"
	command := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-o", draft,
		"-ldflags=all=-X=callout.test/callout.streamHooks="+strings.Join(ofStreams, ",")+
			` "-extldflags='-Wl,--version-script=`+script.Name()+`'"`, ".") // go and its linker split at blanks
	command.Dir, command.Stdout, command.Stderr = directory, os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	os.Remove(strings.TrimSuffix(draft, filepath.Ext(draft)) + ".h") // what cgo leaves beside it
	return os.Rename(draft, path)
}

// What each hook gets.
var takes = map[string]string{
	"OnRequestHeaders": "*callout.HeadersCall", "OnResponseHeaders": "*callout.HeadersCall",
	"OnRequestBody": "*callout.BodyCall", "OnResponseBody": "*callout.BodyCall",
	"OnRequestTrailers": "*callout.TrailersCall", "OnResponseTrailers": "*callout.TrailersCall",
	"OnCheck": "*callout.CheckCall", "OnRateLimit": "*callout.RateLimitCall",
	"OnConnection": "*callout.ConnectionCall", "OnReadData": "*callout.DataCall", "OnWriteData": "*callout.DataCall",
	"OnStreamOpen": "*callout.OpenCall", "OnStreamEnd": "callout.StreamEnd",
}

// checkMethod refuses what was meant to be a hook and would never be called.
func checkMethod(method *ast.FuncDecl) error {
	name, taken, given := method.Name.Name, typesOf(method.Type.Params), typesOf(method.Type.Results)
	wanted, isHook := takes[name]
	gives, signature := "error", fmt.Sprintf("%s(%s) error", name, wanted)
	if name == "OnStreamEnd" {
		gives, signature = "", fmt.Sprintf("%s(%s)", name, wanted)
	}
	switch {
	case isHook && (taken != wanted && isAnother(taken) || given != gives):
		return fmt.Errorf("%s has another signature than the hook; expected %s", name, signature)
	case isHook || !strings.HasPrefix(name, "On"):
		return nil
	}
	var similar []string
	for hook, its := range takes {
		if its == taken {
			similar = append(similar, hook)
		}
	}
	if len(similar) == 0 {
		return nil
	}
	sort.Strings(similar)
	return fmt.Errorf("%s is no hook, and would never be called; hooks that get a %s: %s", name, taken,
		strings.Join(similar, ", "))
}

// typesOf are the types of parameters or results, as they are written.
func typesOf(fields *ast.FieldList) string {
	var written []string
	if fields != nil {
		for _, field := range fields.List {
			for range max(len(field.Names), 1) {
				written = append(written, types.ExprString(field.Type))
			}
		}
	}
	return strings.Join(written, ", ")
}

// isAnother says that what is written is surely not what a hook gets. It may be by an alias, or by another name of the
// import: whether the method is the hook is then seen when the plugin is loaded.
func isAnother(taken string) bool {
	return taken == "" || strings.Contains(taken, ", ") || strings.Contains(taken, "callout.")
}

// findHooks reads the sources that go build would take, without tests: for the functions to export, and for the hooks of
// streams, whose functions every plugin exports.
func findHooks(directory string) (found, ofStreams []string, err error) {
	sources, err := build.ImportDir(directory, 0)
	if err != nil {
		return nil, nil, err
	}
	if sources.Name != "main" {
		return nil, nil, fmt.Errorf("%s is package %s; a plugin is package main", directory, sources.Name)
	}
	for _, name := range append(sources.GoFiles, sources.CgoFiles...) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(directory, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, err
		}
		for _, declaration := range file.Decls {
			method, is := declaration.(*ast.FuncDecl)
			if !is || method.Recv == nil {
				continue
			}
			if err := checkMethod(method); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", filepath.Join(directory, name), err)
			}
			if hooks[method.Name.Name] != "" {
				found = append(found, hooks[method.Name.Name])
			} else if takes[method.Name.Name] != "" {
				ofStreams = append(ofStreams, method.Name.Name)
			}
		}
	}
	if len(found) == 0 {
		return nil, nil, fmt.Errorf("%s has no method that is a hook, such as OnRequestHeaders", directory)
	}
	sort.Strings(found)
	return found, ofStreams, nil
}
