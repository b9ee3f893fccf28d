package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// devFunction is the function that the endpoint of `fife dev` serves, in versions
// 1 and 2.
const devFunction = "arn:aws:lambda:eu-west-1:000000000000:function:api-gateway-stage-variables-get"

// serveDevLambda serves Lambda's Invoke call for devFunction until ctx ends.
func serveDevLambda(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{function}/invocations", invokeDevFunction)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the Lambda endpoint: %w", err)
	}
	return nil
}

// invokeDevFunction answers as a function behind a proxy integration does.
func invokeDevFunction(w http.ResponseWriter, r *http.Request) {
	function, version := r.PathValue("function"), r.URL.Query().Get("Qualifier")
	if rest, ok := strings.CutPrefix(function, devFunction+":"); ok {
		function, version = devFunction, rest
	}
	name := devFunction[strings.LastIndex(devFunction, ":")+1:]
	if (function != devFunction && function != name) || (version != "1" && version != "2") {
		w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
		writeJSON(w, http.StatusNotFound, map[string]string{
			"Message": fmt.Sprintf("fife dev has no function %s in version %q, only %s:1 and :2", function, version, devFunction),
		})
		return
	}
	w.Header().Set("X-Amz-Executed-Version", version)
	writeJSON(w, http.StatusOK, map[string]any{
		"statusCode": http.StatusOK,
		"body":       fmt.Sprintf("%q", "Hello from Lambda v"+version),
	})
}

func writeJSON(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // the caller is gone, which is its own business
}
