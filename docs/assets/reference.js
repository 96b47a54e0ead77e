"use strict";

const reference = SwaggerUIBundle({
  spec: description,
  dom_id: "#reference",
  supportedSubmitMethods: [], // there is no server behind this page
  validatorUrl: null, // else it would ask one on the internet
});

// Parts of the description are found by their addresses, and none is below that of a file.
reference.specActions.updateUrl("https://description.invalid/");

// As light or dark as the page is.
function follow() {
  const dark = document.body.dataset.mdColorScheme === "slate";
  document.documentElement.classList.toggle("dark-mode", dark);
}
new MutationObserver(follow).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
follow();
