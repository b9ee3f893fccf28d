package apigateway

import (
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func parsePercent(text string) (float64, error) {
	percent, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(percent) {
		return 0, badRequest("Invalid canary percentTraffic specified: %s. It must be between 0.0 and 100.0", text)
	}
	return percent, checkPercent(percent)
}

// taggable is the ARN of what can have tags: a REST API or a stage of one.
var taggable = regexp.MustCompile(`^arn:aws[a-z-]*:apigateway:[a-z0-9-]+::/restapis/([^/]+)(?:/stages/([^/]+))?$`)

// tagged reads the ARN that a request is about.
func (c *call) tagged() (api, stage string, err error) {
	match := taggable.FindStringSubmatch(c.path[0])
	if match == nil {
		return "", "", badRequest("Invalid ARN specified in the request")
	}
	return match[1], match[2], nil
}

// checkTags holds tags to the service's limits.
func checkTags(tags map[string]string) error {
	if len(tags) > 50 {
		return badRequest("Invalid tags specified: at most 50 are allowed")
	}
	for name, value := range tags {
		if name == "" || len([]rune(name)) > 128 || strings.HasPrefix(name, "aws:") {
			return badRequest("Invalid tag key specified: %q must have 1 to 128 characters and not begin with aws:", name)
		}
		if len([]rune(value)) > 256 {
			return badRequest("Invalid tag value specified: that of %q must have at most 256 characters", name)
		}
	}
	return nil
}

func (g *Gateway) getTags(c *call) (answer, error) {
	api, stageID, err := c.tagged()
	if err != nil {
		return answer{}, err
	}
	shape := struct {
		Tags map[string]string `json:"tags"`
	}{map[string]string{}}
	if stageID == "" {
		a, err := g.getAPI(c, api)
		if err != nil {
			return answer{}, err
		}
		if tags := toRestAPI(a).Tags; tags != nil {
			shape.Tags = tags
		}
		return answer{http.StatusOK, shape}, nil
	}
	s, err := g.getNativeStage(c, api, stageID)
	if err != nil {
		return answer{}, err
	}
	if tags := toStage(s).Tags; tags != nil {
		shape.Tags = tags
	}
	return answer{http.StatusOK, shape}, nil
}

// changeTags edits the tags of what a request is about.
func (g *Gateway) changeTags(c *call, edit func(map[string]string)) (answer, error) {
	api, stageID, err := c.tagged()
	if err != nil {
		return answer{}, err
	}
	change := func(tags *map[string]string) error {
		if *tags == nil {
			*tags = map[string]string{}
		}
		edit(*tags)
		return checkTags(*tags)
	}
	if stageID == "" {
		_, err = g.changeAPI(c, api, func(_ *fifev1.Api, notes *apiNotes) error { return change(&notes.Tags) })
	} else {
		_, err = g.changeStage(c, api, stageID, func(_ *fifev1.Stage, notes *stageNotes) error { return change(&notes.Tags) })
	}
	return answer{status: http.StatusNoContent}, err
}

func (g *Gateway) tagResource(c *call) (answer, error) {
	var req struct {
		Tags map[string]string `json:"tags"`
	}
	if err := c.read(&req); err != nil {
		return answer{}, err
	}
	return g.changeTags(c, func(tags map[string]string) {
		for name, value := range req.Tags {
			tags[name] = value
		}
	})
}

func (g *Gateway) untagResource(c *call) (answer, error) {
	return g.changeTags(c, func(tags map[string]string) {
		for _, name := range c.query["tagKeys"] {
			delete(tags, name)
		}
	})
}
