// The settings of clients, for the chosen model.

import { ask, byId, flash, setChoices, setText } from "./page.js";

const select = byId("clients-model");

export const showClients = (snapshot) => setChoices(select, snapshot.models.map((model) => model.id));

select.addEventListener("change", async () => {
  const query = select.value ? `?model=${encodeURIComponent(select.value)}` : "";
  try {
    const { clients } = await ask(`/hub/clients${query}`);
    for (const { name, snippets } of clients) {
      const codes = byId("view-clients").querySelectorAll(`[data-client="${name}"] code`);
      snippets.forEach((snippet, index) => codes[index] && setText(codes[index], snippet.text));
    }
  } catch (error) {
    flash("error", `The settings could not be fetched: ${error.message}`);
  }
});
