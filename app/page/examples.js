/** Invented readers and an invented front page, with the categories that the model was tuned on. */

import { t } from "./language.js";

export const READERS = [
  {
    name: t("Sports fan"),
    history: [
      "sports | Harbor City stun the champions in extra time",
      "sports | Ten trades that could shake up the league",
      "sports | Rookie keeper saves three penalties in her first start",
      "travel | Five stadium towns worth the train ride",
      "sports | Coach explains the late substitution everyone argued about",
    ],
    liked: ["sports | Veteran striker announces one last season"],
    disliked: [
      "foodanddrink | Fifteen soups for cold evenings",
      "finance | Central bank holds rates for a third month",
    ],
  },
  {
    name: t("Home cook"),
    history: [
      "foodanddrink | The weeknight roast chicken that needs one pan",
      "lifestyle | How to sharpen a kitchen knife in five minutes",
      "foodanddrink | We tried nine canned tomatoes; two were worth it",
      "health | What a month of more fiber did for me",
      "foodanddrink | Bakers share what they never do to bread",
    ],
    liked: ["foodanddrink | A lentil stew that tastes better tomorrow"],
    disliked: [
      "sports | Late goal sends Northfield through",
      "autos | The quickest electric sedan we have driven",
    ],
  },
  {
    name: t("Investor"),
    history: [
      "finance | Chip maker raises its forecast, shares jump",
      "news | Port strike enters its second week",
      "finance | What the new retirement rules mean for savers",
      "finance | Bond yields slip after a weak jobs report",
      "finance | Grocery chain agrees to a surprise merger",
    ],
    liked: ["finance | Three funds that beat the market quietly"],
    disliked: ["tv | The finale everyone is talking about", "sports | Ranking all thirty mascots"],
  },
];

export const FRONT_PAGE = [
  "finance | Stocks slide as oil climbs for a fifth day",
  "sports | Cup final goes to penalties after a wild second half",
  "foodanddrink | The only pie crust recipe you will ever need",
  "news | City council votes to reopen the old river bridge",
  "weather | First snow may reach the valley by Friday",
  "sports | Quarterback out for the season with a knee injury",
  "finance | Should you pay off the mortgage early?",
  "foodanddrink | Eleven dinners that start with a can of beans",
  "health | Doctors say this short walk after meals helps",
  "movies | The heist film that surprised the critics",
  "travel | Six quiet islands to visit before summer",
  "autos | Recall covers four popular family cars",
];
