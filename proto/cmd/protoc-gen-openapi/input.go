package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"go.yaml.in/yaml/v3"
)

// settings are what protobuf files can't say.
type settings struct {
	Info struct {
		Title       string `yaml:"title"`
		Version     string `yaml:"version"`
		Description string `yaml:"description"`
	} `yaml:"info"`
	// Errors are the statuses of errors, each with its codes.
	Errors []struct {
		Status      int      `yaml:"status"`
		Codes       []string `yaml:"codes"`
		Description string   `yaml:"description"`
		// Calls are patterns of the names of the calls that answer so.
		Calls []string `yaml:"calls"`
		// Headers are fields of the response and what they say.
		Headers map[string]string `yaml:"headers"`
	} `yaml:"errors"`
	// Parameters are header fields of requests.
	Parameters []struct {
		Name        string   `yaml:"name"`
		Description string   `yaml:"description"`
		Pattern     string   `yaml:"pattern"`
		Calls       []string `yaml:"calls"`
	} `yaml:"parameters"`
	// Examples are resources, by the names of their messages.
	Examples map[string]yaml.Node `yaml:"examples"`
	// Operations are the names of bindings that are not the first of their call, such as "GET /path".
	Operations map[string]string `yaml:"operations"`
	// MergePatches are patterns of the names of the calls whose body is a JSON merge patch of the resource that they
	// return.
	MergePatches []string `yaml:"merge_patches"`
}

// among reports whether a call's name is one of the patterns'.
func among(patterns []string, call string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, call); err == nil && ok {
			return true
		}
	}
	return false
}

func readSettings(name string) (*settings, error) {
	set := new(settings)
	return set, read(name, set, true)
}

// binding is one REST call of a method.
type binding struct {
	verb, path, body string
	first            bool // of its method
}

// readBindings returns the bindings by the methods' full names.
func readBindings(name string) (map[string][]binding, error) {
	type rule struct {
		Selector   string `yaml:"selector"`
		Get        string `yaml:"get"`
		Put        string `yaml:"put"`
		Post       string `yaml:"post"`
		Patch      string `yaml:"patch"`
		Delete     string `yaml:"delete"`
		Body       string `yaml:"body"`
		Additional []rule `yaml:"additional_bindings"`
	}
	var file struct {
		HTTP struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"http"`
	}
	if err := read(name, &file, false); err != nil {
		return nil, err
	}
	all := map[string][]binding{}
	for _, r := range file.HTTP.Rules {
		for i, one := range append([]rule{r}, r.Additional...) {
			for verb, p := range map[string]string{"get": one.Get, "put": one.Put, "post": one.Post,
				"patch": one.Patch, "delete": one.Delete} {
				if p != "" {
					all[r.Selector] = append(all[r.Selector], binding{verb, p, one.Body, i == 0})
				}
			}
		}
	}
	return all, nil
}

func read(name string, into any, strict bool) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(strict)
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
