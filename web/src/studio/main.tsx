import { render } from "preact";
import "../styles/base.css";
import "../styles/shell.css";
import "../styles/submit.css";
import "../styles/gallery.css";
import "../styles/conversion.css";
import "../styles/admin.css";
import { watchAddress } from "../state/route";
import { resume } from "../state/sign-in";
import { applyTheme } from "../state/theme";
import { App } from "./app";

applyTheme();
watchAddress();
const place = document.getElementById("studio");
if (place === null) throw new Error("The page has no place for the studio.");
// Whoever is signed in already shouldn't see the sign-in page for a moment.
void resume().finally(() => render(<App />, place));
