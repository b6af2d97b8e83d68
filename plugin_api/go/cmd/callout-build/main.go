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
	found, err := findHooks(directory)
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
		`-ldflags=all="-extldflags='-Wl,--version-script=`+script.Name()+`'"`, ".") // go and its linker split at blanks
	command.Dir, command.Stdout, command.Stderr = directory, os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	os.Remove(strings.TrimSuffix(draft, filepath.Ext(draft)) + ".h") // what cgo leaves beside it
	return os.Rename(draft, path)
}

// What each hook gets.
var takes = map[string]string{
	"OnRequestHeaders": "HeadersCall", "OnResponseHeaders": "HeadersCall",
	"OnRequestBody": "BodyCall", "OnResponseBody": "BodyCall",
	"OnRequestTrailers": "TrailersCall", "OnResponseTrailers": "TrailersCall",
	"OnCheck": "CheckCall", "OnRateLimit": "RateLimitCall",
	"OnConnection": "ConnectionCall", "OnReadData": "DataCall", "OnWriteData": "DataCall",
	"OnStreamOpen": "OpenCall",
}

// checkMethod refuses what was meant to be a hook and would never be called.
func checkMethod(method *ast.FuncDecl) error {
	name, call := method.Name.Name, callOf(method.Type)
	wanted, isHook := takes[name]
	switch {
	case isHook && (call != "" && call != wanted || method.Type.Params.NumFields() != 1 || method.Type.Results.NumFields() != 1):
		return fmt.Errorf("%s has another signature than the hook; expected %s(*callout.%s) error", name, name, wanted)
	case isHook || !strings.HasPrefix(name, "On") || call == "":
		return nil
	}
	var similar []string
	for hook, taken := range takes {
		if taken == call {
			similar = append(similar, hook)
		}
	}
	sort.Strings(similar)
	return fmt.Errorf("%s is no hook, and would never be called; hooks that get a *callout.%s: %s", name, call,
		strings.Join(similar, ", "))
}

// callOf is the X of a method's one parameter *callout.XCall; "" if it has another.
func callOf(signature *ast.FuncType) string {
	if signature.Params.NumFields() != 1 {
		return ""
	}
	pointer, _ := signature.Params.List[0].Type.(*ast.StarExpr)
	if pointer == nil {
		return ""
	}
	selector, _ := pointer.X.(*ast.SelectorExpr)
	if selector == nil || !strings.HasSuffix(selector.Sel.Name, "Call") {
		return ""
	}
	if of, _ := selector.X.(*ast.Ident); of == nil || of.Name != "callout" {
		return ""
	}
	return selector.Sel.Name
}

// findHooks reads the sources that go build would take, without tests.
func findHooks(directory string) ([]string, error) {
	sources, err := build.ImportDir(directory, 0)
	if err != nil {
		return nil, err
	}
	if sources.Name != "main" {
		return nil, fmt.Errorf("%s is package %s; a plugin is package main", directory, sources.Name)
	}
	var found []string
	for _, name := range append(sources.GoFiles, sources.CgoFiles...) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(directory, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, declaration := range file.Decls {
			method, is := declaration.(*ast.FuncDecl)
			if !is || method.Recv == nil {
				continue
			}
			if err := checkMethod(method); err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Join(directory, name), err)
			}
			if hooks[method.Name.Name] != "" {
				found = append(found, hooks[method.Name.Name])
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no method that is a hook, such as OnRequestHeaders", directory)
	}
	sort.Strings(found)
	return found, nil
}
