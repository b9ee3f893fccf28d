package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newAPIImportCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import API",
		Short: "Make the routes of an OpenAPI document the draft",
		Long: `Make the routes of an OpenAPI 3.0, 3.1 or Swagger 2.0 document, in JSON or YAML,
the draft of an API, all at once or not at all. What is served does not change
until the draft is deployed.

Operations with an x-amazon-apigateway-integration (http_proxy, aws_proxy or
mock) get that; in a document without any, operations pass requests on to the
document's server. What the document asks for and Fife does not do is named on
stderr.`,
		Example: `  fife api import demo -f openapi.yaml --create
  fife api import demo -f openapi.yaml --merge --base-path prepend --dry-run`,
	}
	file := cmd.Flags().StringP("file", "f", "", "`FILE` with the document; - is stdin")
	merge := cmd.Flags().Bool("merge", false, "keep routes that the document does not have")
	create := cmd.Flags().Bool("create", false, "make the API if there is none")
	base := newChoiceFlag("ignore", "ignore", "prepend", "split")
	cmd.Flags().Var(&base, "base-path", "what becomes of the document's base path")
	offer(cmd, "base-path", base.options...)
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "API")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		document, err := readDocument(c, cmd, *file)
		if err != nil {
			return err
		}
		request := &fifev1.ImportRoutesRequest{
			Parent: apiName(args[0]), Document: document, AllowMissing: *create, Etag: f.etag, ValidateOnly: f.dryRun,
			BasePath: map[string]fifev1.BasePathMode{
				"prepend": fifev1.BasePathMode_BASE_PATH_MODE_PREPEND,
				"split":   fifev1.BasePathMode_BASE_PATH_MODE_SPLIT,
			}[base.value],
		}
		if *merge {
			request.Mode = fifev1.ImportMode_IMPORT_MODE_MERGE
		}
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.ImportRoutesResponse, error) {
			request.RequestId = f.requestID
			return fifev1.NewApiServiceClient(at).ImportRoutes(ctx, request)
		}, func(w io.Writer, r *fifev1.ImportRoutesResponse) {
			f.say(w, r, "API "+args[0], "imported")
			writeImport(w, r)
		})
	}
	return cmd
}

// maxDocument is the most bytes that the control plane takes.
const maxDocument = 6 << 20

func readDocument(c *cli, cmd *cobra.Command, file string) ([]byte, error) {
	if file == "" {
		return nil, usagef(cmd, "-f FILE says where the document is; - is stdin")
	}
	in := c.in
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, usagef(cmd, "-f: %v", err)
		}
		defer func() { _ = opened.Close() }() // it was only read
		in = opened
	}
	document, err := io.ReadAll(io.LimitReader(in, maxDocument+1))
	if err != nil {
		return nil, usagef(cmd, "-f: %v", err)
	}
	if len(document) > maxDocument {
		return nil, usagef(cmd, "-f: %s has more than %d bytes, the most that can be imported", file, maxDocument)
	}
	return document, nil
}

// writeImport names the routes that an import has changed, as far as they are told.
func writeImport(w io.Writer, r *fifev1.ImportRoutesResponse) {
	for _, group := range []struct {
		sign   string
		routes []string
		count  int32
	}{
		{"+", r.GetRoutesAdded(), r.GetAdded()},
		{"-", r.GetRoutesRemoved(), r.GetRemoved()},
		{"~", r.GetRoutesChanged(), r.GetChanged()},
	} {
		for _, route := range group.routes {
			linef(w, "%s %s", group.sign, clean(route))
		}
		if more := int(group.count) - len(group.routes); more > 0 {
			linef(w, "%s and %d more", group.sign, more)
		}
	}
	linef(w, "routes: %d added, %d removed, %d changed, %d unchanged", r.GetAdded(), r.GetRemoved(), r.GetChanged(), r.GetUnchanged())
}

func newAPIExportCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export API",
		Short: "Write the routes of an API as an OpenAPI document",
		Long: `Write the draft, or with --deployment what was deployed, as OpenAPI 3.0 with the
extensions of API Gateway: JSON, or with -o yaml YAML. fife api import takes it
back.`,
		Example: "  fife api export demo\n  fife api export demo --deployment 3 -o yaml",
	}
	deployment := cmd.Flags().Uint64("deployment", 0, "`NUMBER` of the deployment (default the draft)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		parent := cmp.Or(deploymentOf(args[0], *deployment), apiName(args[0]))
		r, err := fetch(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ExportRoutesResponse, error) {
			return fifev1.NewApiServiceClient(at).ExportRoutes(ctx, &fifev1.ExportRoutesRequest{Parent: parent})
		})
		if err != nil {
			return err
		}
		return c.writeDocument(r.GetDocument())
	}
	return cmd
}

// writeDocument writes an OpenAPI document as it is, or in YAML if that is asked for.
func (c *cli) writeDocument(document []byte) error {
	out := bytes.NewBuffer(document)
	if c.output.value == "yaml" {
		out = &bytes.Buffer{}
		if err := encodeYAML(out, json.RawMessage(document)); err != nil {
			return fmt.Errorf("print the document: %w", err)
		}
	}
	if _, err := c.out.Write(out.Bytes()); err != nil {
		return fmt.Errorf("print the document: %w", err)
	}
	return nil
}
