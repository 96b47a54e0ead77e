"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  validatorUrl: null, // else it would ask a server on the internet
  // It can't send JSON in a text field of a form, as execute needs; the page of this server can.
  supportedSubmitMethods: ["get", "head"],
});

// As light or dark as the system is.
const dark = matchMedia("(prefers-color-scheme: dark)");
function follow() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}
dark.addEventListener("change", follow);
follow();
