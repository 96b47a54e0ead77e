"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  validatorUrl: null, // else it would ask a server on the internet
});
