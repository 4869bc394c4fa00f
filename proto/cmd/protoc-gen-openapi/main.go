// Command protoc-gen-openapi is a plugin of protoc and buf that describes the admin API's REST calls in OpenAPI 3.1,
// and in 3.0 for tools that don't read 3.1 yet. Messages and calls come from the protobuf files with their comments,
// paths from the one list of REST bindings, and what neither has, which are errors and header fields, from a file of
// settings.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	var flags flag.FlagSet
	bindings := flags.String("bindings", "", "file with the REST bindings, as grpc_api_configuration of grpc-gateway")
	settings := flags.String("settings", "", "file with title, errors and header fields")
	protogen.Options{ParamFunc: flags.Set}.Run(func(p *protogen.Plugin) error {
		p.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		set, err := readSettings(*settings)
		if err != nil {
			return err
		}
		rules, err := readBindings(*bindings)
		if err != nil {
			return err
		}
		doc, err := describe(p, set, rules)
		if err != nil {
			return err
		}
		for name, content := range map[string]any{"openapi.json": doc, "openapi-3.0.json": older(doc)} {
			var out bytes.Buffer
			enc := json.NewEncoder(&out)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(content); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
			if _, err := p.NewGeneratedFile(name, "").Write(out.Bytes()); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
		}
		return nil
	})
}
