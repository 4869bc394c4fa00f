// Package settings gives a command's flags their values: from the command line, else from the environment
// (GATEWAY_HTTP_ADDR for --http-addr), else from a YAML file (http-addr) that --config-file names, else the default.
package settings

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"gateway.internal/shared/suggest"
	"gateway.internal/shared/yamlerror"
)

// FileFlag is the flag that names the settings file.
const FileFlag = "config-file"

// Bind gives the command the flag --config-file, and errors of its flags plain words. Load has to be called before
// flags are read.
func Bind(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(FlagError)
	cmd.Flags().String(FileFlag, "", "YAML file with settings; keys are the flags' names")
}

// EnvName returns the environment variable of a flag.
func EnvName(flag string) string {
	return "GATEWAY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Load fills in the flags that the command line does not have. Errors name the variable, or the file and key.
func Load(cmd *cobra.Command) error {
	flags := cmd.Flags()
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if value, ok := os.LookupEnv(EnvName(f.Name)); ok && !f.Changed && err == nil {
			if setErr := flags.Set(f.Name, value); setErr != nil {
				err = fmt.Errorf("environment variable %s: %w", EnvName(f.Name), FlagError(cmd, setErr))
			}
		}
	})
	if err != nil {
		return err
	}
	path, err := flags.GetString(FileFlag)
	if err != nil || path == "" {
		return err
	}
	return loadFile(cmd, path)
}

func loadFile(cmd *cobra.Command, path string) error {
	flags := cmd.Flags()
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("settings file: %w", err)
	}
	var values map[string]yaml.Node
	if err := yaml.Unmarshal(text, &values); err != nil {
		wrong := yamlerror.Of(text, err)
		return fmt.Errorf("settings file %s:%d:%d: is no YAML: %s", path, wrong.Line, wrong.Column, wrong.Message)
	}
	for key, node := range values {
		f := flags.Lookup(key)
		if f == nil || key == FileFlag || key == "help" {
			var known []string
			flags.VisitAll(func(f *pflag.Flag) {
				if f.Name != FileFlag && f.Name != "help" {
					known = append(known, f.Name)
				}
			})
			slices.Sort(known)
			return fmt.Errorf("settings file %s:%d: there is no setting %q%s", path, node.Line, key, suggest.Clause(key, known))
		}
		if f.Changed {
			continue
		}
		value, err := flagText(&node)
		if err == nil {
			err = flags.Set(key, value)
		}
		if err != nil {
			return fmt.Errorf("settings file %s:%d: %w", path, node.Line, FlagError(cmd, err))
		}
	}
	return nil
}

// flagText writes a node as the command line would: lists with commas, mappings as key=value.
func flagText(n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value, nil
	case yaml.SequenceNode:
		var parts []string
		for _, c := range n.Content {
			parts = append(parts, c.Value)
		}
		return strings.Join(parts, ","), nil
	case yaml.MappingNode:
		var parts []string
		for i := 0; i+1 < len(n.Content); i += 2 {
			parts = append(parts, n.Content[i].Value+"="+n.Content[i+1].Value)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("has to be a value, a list or a mapping")
}
