package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/config"
)

// The tests of the contract with clients need tools of Python and Node, which make contract installs, and minutes. They
// are run where contractVariable is set.
const contractVariable = "GATEWAY_CONTRACT"

// contract returns the folder of the tools, and a control plane to use them on.
func contract(t *testing.T) (tools string, g *gateway) {
	t.Helper()
	if os.Getenv(contractVariable) == "" {
		t.Skip("make contract runs it")
	}
	python, err := testserver.FindTool(filepath.Join("contract", "venv", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(filepath.Dir(python), "..", ".."), newGateway(t)
}

// try runs a program in a folder, against the control plane, and returns what it prints.
func (g *gateway) try(limit time.Duration, folder string, env []string, name string, args ...string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	cmd.Env = append(append(os.Environ(), "GATEWAY=http://"+g.rest, "TOKEN="+adminToken), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// copyOf copies files of testdata/contract into a new folder.
func copyOf(t *testing.T, names ...string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", "contract", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, name), string(text))
	}
	return folder
}

// TestPythonClient makes a client by openapi-python-client of each description and has it list, create, change and
// delete a route.
func TestPythonClient(t *testing.T) {
	for _, description := range []string{"openapi.json", "openapi-3.0.json"} {
		t.Run(description, func(t *testing.T) {
			tools, g := contract(t)
			bin, folder := filepath.Join(tools, "venv", "bin"), copyOf(t, "client.py")
			said := g.try(3*time.Minute, folder, []string{"PATH=" + bin + ":" + os.Getenv("PATH")},
				filepath.Join(bin, "openapi-python-client"), "generate", "--url", "http://"+g.rest+"/api/v1/"+description,
				"--output-path", "gateway_client", "--meta", "none", "--fail-on-warning")
			if strings.Contains(said, "WARNING") {
				t.Errorf("the generator warns: %s", said)
			}
			out := g.try(time.Minute, folder, nil, filepath.Join(bin, "python"), "client.py")
			if !strings.HasSuffix(out, "done\n") {
				t.Errorf("the client says %s", out)
			}
		})
	}
}

// TestTypeScriptClient does the same with the types that openapi-typescript makes, which the compiler checks the calls
// against.
func TestTypeScriptClient(t *testing.T) {
	tools, g := contract(t)
	folder, modules := copyOf(t, "client.ts", "tsconfig.json"), filepath.Join(tools, "node_modules")
	if err := os.Symlink(modules, filepath.Join(folder, "node_modules")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "package.json"), `{"type": "module"}`)
	run := func(name string, args ...string) string {
		t.Helper()
		return g.try(3*time.Minute, folder, nil, filepath.Join(modules, ".bin", name), args...)
	}
	run("openapi-typescript", "http://"+g.rest+"/api/v1/openapi.json", "-o", "gateway.d.ts")
	run("tsc", "--project", ".", "--outDir", "out")
	if out := g.try(time.Minute, folder, nil, "node", "out/client.js"); !strings.HasSuffix(out, "done\n") {
		t.Errorf("the client says %s", out)
	}
}

// TestFuzzedContract has schemathesis make up requests by the description, good ones and bad ones, and hold the
// responses against it: statuses, content types, header fields and bodies that are not described, and failures of the
// server's own, fail the test.
func TestFuzzedContract(t *testing.T) {
	tools, g := contract(t)
	ids := seed(t, g)
	folder := copyOf(t, "schemathesis.toml")
	run := func(t *testing.T, selection ...string) {
		t.Helper()
		args := append([]string{
			"run", "http://" + g.rest + "/api/v1/openapi.json", "--header", "Authorization: Bearer " + adminToken, "--no-color",
			"--checks", "not_a_server_error,status_code_conformance,content_type_conformance," +
				"response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance," +
				"ignored_auth",
			"--phases", "examples,coverage,fuzzing", "--max-examples", examples(), "--continue-on-failure", "--seed", "1",
		}, selection...)
		out := g.try(20*time.Minute, folder, ids, filepath.Join(tools, "venv", "bin", "schemathesis"), args...)
		t.Log(out[strings.Index(out, "Warnings:"):])
	}
	// What is made up may take resources away that other calls are made up for: first without those that do.
	t.Run("calls that leave resources there", func(t *testing.T) {
		run(t, "--exclude-method", "DELETE",
			"--exclude-operation-id-regex", "ApplyConfiguration|RollbackRevision|PruneHistory")
	})
	t.Run("all calls", func(t *testing.T) { run(t) })
}

// examples is how many requests schemathesis makes up for each call.
func examples() string {
	if n := os.Getenv("GATEWAY_CONTRACT_EXAMPLES"); n != "" {
		return n
	}
	return "30"
}

// seed makes resources, the examples of the description, and returns the variables of schemathesis.toml, which are ids.
func seed(t *testing.T, g *gateway) (ids []string) {
	t.Helper()
	res, err := http.Get("http://" + g.rest + "/api/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var doc struct {
		Paths map[string]struct {
			Post struct {
				RequestBody struct {
					Content map[string]struct{ Example json.RawMessage }
				}
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	kinds := []string{"services", "middleware", "pipelines", "policies", "consumers", "certificates", "routes", "apply"}
	for _, kind := range kinds {
		path := "/api/v1/config/" + kind
		example := doc.Paths[path].Post.RequestBody.Content["application/json"].Example
		if _, _, err := g.call("POST", path, string(bytes.TrimSpace(example))); err != nil {
			t.Fatalf("the example of %s: %v", kind, err)
		}
	}
	for kind, name := range map[string]string{
		"services": "users", "middleware": "stamp", "pipelines": "front", "routes": "users-api", "policies": "patient",
		"consumers": "shop", "certificates": "www",
	} {
		one, err := config.ParseKind(kind)
		if err != nil {
			t.Fatal(err)
		}
		data, _, err := g.call("GET", "/api/v1/config/"+kind+"/"+name, "")
		var resource struct{ ID string }
		if err != nil || json.Unmarshal(data, &resource) != nil {
			t.Fatalf("%s %s: %v: %s", kind, name, err, data)
		}
		ids = append(ids, strings.ToUpper(one.String())+"="+resource.ID)
	}
	return ids
}
